// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
import PrefixIndex

/// Decides which pods serve each request, and when. A machine: events and times in, actions out.
///
/// It holds no clock, socket, log or global generator: the same options, seed, events and times give the same actions,
/// in the server, in the simulator and in a replay. Not thread-safe; the shell keeps it behind one lock.
///
/// Every request that was dispatched is told to have `ended` exactly once by a shell that works; duplicates, unknown
/// ids and events in any order are ignored where they make no sense.
package struct Router: Sendable {
    package let options: RouterOptions
    let prefixes: any PrefixAnswers
    var draws: SeededDraws
    /// Latest time seen: a clock that jumps back is held.
    var now = Instant.origin

    // One entry per endpoint, in the order of ids.
    var fleet = FleetSnapshot.empty
    /// Whether any endpoint computes prompts for others, available or not.
    var fleetHasPrefills = false
    var ledgers: [PodLedger] = []
    var healths: [EndpointHealth] = []
    /// When each endpoint's load was last taken into account.
    var loadSeen: [Instant?] = []
    var calibrators: [PodCalibrator] = []
    var phases: [PhaseSums] = []
    /// Calibrators of an earlier process, for endpoints that have not come yet.
    var restored = RestoredCalibrators()
    var shared = SharedCalibrators()
    var dueCalibrations = DueCalibrations()
    var transfers = TransferCalibrator()
    var frame = DecisionFrame.empty

    var pools: [PoolKey: CandidatePool] = [:]
    /// The pool that was asked for last: most requests of a fleet are for one, and comparing costs less than hashing.
    var lastPool: (key: PoolKey, pool: CandidatePool)?
    /// When a pause ends, so that pools must be worked out again.
    var poolsExpire: Instant?

    var inFlight: [RequestID: InFlight] = [:]
    var unserved: [RequestID: Unserved] = [:]
    /// Of requests in flight whose end nobody will see.
    var predictedEnds = PredictedEnds()
    var queue: WaitingQueue
    /// The wake that the shell was last asked for.
    var wakeAt: Instant?
    var monitors = BindingMonitors()
    /// Running mean of predicted prefills, in seconds.
    var meanWork = 0.0
    /// The order of service, as places in the queue; reused from round to round.
    var order: [Int] = []
    var holds = Holds()
    var triages = Triages()
    /// Some pod can decode: without any nothing is placed.
    var hasDecoders = false
    var control: DialControl

    // Pickers side by side.
    var peers: [PeerNotice.Key: PeerWork] = [:]
    var peersSwept = Instant.origin
    var notices: [PeerNotice] = []
    var hostPorts: [String: Int] = [:]

    package internal(set) var counts = RouterCounts()
    var arrivals = DecayedRate(window: 30)
    var reuse = DecayedShare(memory: 0.99)
    package internal(set) var outputLengths: OutputLengths
    package internal(set) var promptLengths: PromptLengths

    var search = DecisionSearch()
    var holdings: [PrefixHolding] = []
    /// The request that `holdings` are of, within one event: who is queued and at once placed is not looked up twice.
    var lookedUp: RequestID?
    /// Of each shared store, the places of the pods that load from it.
    var storeReach: [[Int]] = []
    var records: [DecisionRecord] = []

    /// Kinds of requests whose pools are kept. Model names come from clients: beyond this all are forgotten.
    static let maximumPools = 256
    /// Requests that the ledger follows. Beyond, requests are dispatched without being counted.
    static let maximumInFlight = 1 << 18
    /// Records that wait to be taken. Beyond, none is made.
    static let maximumRecords = 1024

    package init(options: RouterOptions = RouterOptions(), prefixes: any PrefixAnswers, seed: UInt64) {
        self.options = options
        self.prefixes = prefixes
        draws = SeededDraws(seed: seed)
        queue = WaitingQueue(options.queue)
        control = DialControl(options.control)
        outputLengths = OutputLengths()
        promptLengths = PromptLengths()
    }

    /// Takes one event and appends what the shell must do.
    /// Time does not run backwards: an earlier `now` is taken as the latest one seen.
    package mutating func handle(
        _ event: consuming RouterEvent,
        at now: Instant,
        into actions: inout [RouterAction]
    ) {
        if now.rawValue.isFinite { self.now = max(self.now, now) }
        lookedUp = nil
        if predictedEnds.first <= self.now.rawValue { settle() }
        takeDueCalibrations()
        switch consume event {
        case .arrived(let request): arrived(request, into: &actions)
        case .firstToken(let id): firstToken(id, into: &actions)
        case .ended(let id, let outcome): ended(id, outcome, into: &actions)
        case .served(let id, let place): served(id, place)
        case .fleetChanged(let snapshot): fleetChanged(snapshot, into: &actions)
        case .loadObserved(let id, let load): loadObserved(id, load)
        case .phasesObserved(let id, let growth): phasesObserved(id, growth)
        case .peer(let notice): peerNoticed(notice)
        case .tick:
            wakeAt = nil
            pump(into: &actions)
        }
    }

    /// The decisions made since this was last asked, as far as `recordedShare` said.
    package mutating func takeRecords() -> [DecisionRecord] {
        guard !records.isEmpty else { return [] }
        defer { records.removeAll(keepingCapacity: true) }
        return records
    }

    /// Output tokens to expect of a request.
    package func expectedOutputTokens(model: String?, promptTokens: Int, limit: Int?) -> Int {
        outputLengths.expected(model: model, promptTokens: promptTokens, limit: limit)
    }

    /// Prompt tokens to expect of a text.
    package func expectedPromptTokens(model: String?, promptBytes: Int) -> Int {
        promptLengths.tokens(model: model, promptBytes: promptBytes)
    }
}
