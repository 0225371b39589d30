// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import PrefixIndex

/// How much of a prompt's start one endpoint holds.
package struct PrefixHolding: Sendable, Hashable, Codable {
    package var endpoint: EndpointID
    /// Tokens held from the start without a hole, before the rule that the last block is always recomputed.
    package var tokens: Int

    package init(endpoint: EndpointID, tokens: Int) {
        self.endpoint = endpoint
        self.tokens = tokens
    }
}

/// What the Router asks of the prefix index. The server, the simulator and tests each bring their own.
package protocol PrefixAnswers: AnyObject, Sendable {
    /// Replaces `result` by what each endpoint holds, sorted by endpoint; endpoints that hold nothing are left out.
    func holders(of keys: PrefixKeys, into result: inout [PrefixHolding])
    /// As above, with keys of the prompt's token ids where they are known: what engines' own events name.
    func holders(of keys: PrefixKeys, tokens: PrefixKeys?, into result: inout [PrefixHolding])
    /// The prompt was sent to `endpoint`, which will hold it: learned at dispatch, so that cold siblings find each other.
    func learn(_ keys: PrefixKeys, at endpoint: EndpointID)
}

extension PrefixAnswers {
    /// An index that knows nothing of token ids answers by text alone.
    package func holders(of keys: PrefixKeys, tokens: PrefixKeys?, into result: inout [PrefixHolding]) {
        holders(of: keys, into: &result)
    }
}
