// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What a model server did, in order of time.
package struct ServerEvent: Sendable, Hashable {
    package enum Kind: Sendable, Hashable {
        /// Memory is set aside for a remote job, and this many tokens of its prompt are cached here: the rest is to be sent.
        case reserved(cachedTokens: Int)
        /// The prompt is being computed from now on, less this many cached tokens.
        case started(cachedTokens: Int)
        case firstToken
        /// The output has this many tokens now. Only where `reportsTokens` is set.
        case token(count: Int)
        case finished
        /// Memory ran out: the job lost its KV and waits to be computed again.
        case preempted
        /// The job can never fit into this server's memory.
        case rejected
        /// These blocks of the job, counted through prompt and output, are cached now. Only where `reportsBlocks` is set.
        case blocksStored(Range<Int>)
        /// The block of this hash is cached no more. `job` is 0. Only where `reportsBlocks` is set.
        case blockRemoved(UInt64)
    }

    package var at: Instant
    package var job: UInt64
    package var kind: Kind

    package init(at: Instant, job: UInt64, kind: Kind) {
        self.at = at
        self.job = job
        self.kind = kind
    }
}
