// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// Hears what is worth counting of the exchanges of one loop, and changes nothing.
package protocol ExchangeObserver: AnyObject {
    /// Envoy sent the request to `served`, which the picker had not named. With clusters that fall back by themselves
    /// (`override_host`), predictions and load of both endpoints are then wrong.
    func servedElsewhere(_ request: RequestID, picked: [String], served: String)
    /// A request was answered by ourselves: refused by the gateway, being bad or too large, or by the picker.
    func answered(status: Int)
    /// A call was ended for what the peer sent on it.
    func violated(_ status: GRPCStatus)
}
