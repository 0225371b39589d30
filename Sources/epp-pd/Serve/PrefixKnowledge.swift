// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex
import Router

/// What the picker knows of cached prefixes, as the Router asks for it.
final class PrefixKnowledge: PrefixAnswers {
    init(bytes: Int) {}

    func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) { result.removeAll(keepingCapacity: true) }
    func learn(_ keys: PrefixKeys, at endpoint: EndpointID) {}
}
