// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Testing

@testable import Configuration

@Suite struct PickerConfigurationTests {
    private func read(_ text: String) throws(ConfigurationErrors) -> PickerConfiguration {
        try PickerConfiguration.read(text: text, file: "epp.yaml")
    }

    @Test func readsEveryKey() throws {
        let configuration = try read(
            """
            mode: balanced
            binding: late
            priorities:
              - {minimumPriority: 0, valueOfTime: 0.3, sloMissPrice: 0.6}
            objectives: {interactive: 10, batch: -1}
            serviceLevels:
              default: {ttft: 1s, ttftPerPromptToken: 250us, tpot: 50ms}
              models: {small: {ttft: 200ms}}
            constraints:
              - {model: big, maximumPriority: 0, accelerators: [h100-sxm], excludedPods: [p-0], highestPrice: 0.05}
            queue: {maximumRequests: 8, maximumBytes: 1024, maximumHold: 5s}
            pools:
              chat: {binding: early, serviceLevel: {tpot: 20ms}, enginePriority: lowestFirst}
              batch: {enginePriority: highestFirst}
            control: {dollarsPerThousand: 5}
            network: {betweenRacks: {gbps: 100}, betweenHosts: {latency: 1ms}}
            kvCache:
              blockTokens: 1
              pairCachedTokens: prefill
              tokenizer: {source: render, deadline: 50ms, connections: 2, cacheMiB: 1, leastBytes: 0}
              stores: [{name: s, gbps: 8, latency: 1ms, model: m, pods: [p-], kvEvents: {endpoint: "tcp://h:1"}}]
            """
        )
        #expect(configuration.network.betweenRacks == NetworkLink(bytesPerSecond: 12.5e9))
        #expect(configuration.network.betweenHosts == NetworkLink(latency: Seconds(0.001)))
        #expect(configuration.network.betweenZones == NetworkTopology.standard.betweenZones)
        #expect(configuration.kvCache.pairsReportPrefill)
        #expect(configuration.kvCache.blockTokens == 1)
        #expect(configuration.kvCache.tokenizer.source == .render)
        #expect(configuration.kvCache.tokenizer.deadline == Seconds(0.05))
        let store = SharedStore(name: "s", model: "m", pods: ["p-"], bytesPerSecond: 1e9, latency: Seconds(0.001))
        #expect(configuration.kvCache.stores.map(\.store) == [store])
        #expect(configuration.kvCache.stores.map(\.endpoint) == ["tcp://h:1"])
        #expect(configuration.mode == .balanced)
        #expect(configuration.binding == .late)
        #expect(configuration.priorities.first?.dials == Dials(valueOfTime: 0.3, sloMissPrice: Dollars(0.6)))
        #expect(configuration.objectives == ["interactive": 10, "batch": -1])
        #expect(configuration.serviceLevel.level(promptTokens: 1000).ttft == Seconds(1.25))
        #expect(configuration.serviceLevelByModel["small"]?.ttftBase == Seconds(0.2))
        #expect(configuration.constraints.first?.priceLimit == Dollars(0.05))
        #expect(configuration.constraints.first?.accelerators == ["h100-sxm"])
        #expect(configuration.queue.maximumRequests == 8)
        #expect(configuration.bindingByPool == ["chat": .early])
        #expect(configuration.serviceLevelByPool["chat"]?.tpot == Seconds(0.02))
        #expect(configuration.enginePriority == ["chat": .lowestFirst, "batch": .highestFirst])
        #expect(configuration.control == .dollarsPerRequest(Dollars(0.005)))
        #expect(try read("control: {attainment: 0.95}").control == .attainment(0.95))
    }

    @Test(arguments: [
        ("mode: fast", "mode"),
        ("modes: latency", "modes"),
        ("priorities: [{minimumPriority: 0}]", "priorities[0].valueOfTime"),
        ("priorities: [{minimumPriority: 0, valueOfTime: -1, sloMissPrice: 0}]", "priorities[0].valueOfTime"),
        ("serviceLevels: {default: {ttft: 5}}", "serviceLevels.default.ttft"),
        ("constraints: [{highestPrice: .nan}]", "constraints[0].highestPrice"),
        ("queue: {maximumRequests: -1}", "queue.maximumRequests"),
        ("objectives: {a: many}", "objectives.a"),
        ("pools: {a: {binding: never}}", "pools.a.binding"),
        ("pools: {a: {priority: 3}}", "pools.a.priority"),
        ("control: {attainment: 1}", "control.attainment"),
        ("control: {attainment: 0.9, dollarsPerThousand: 5}", "control"),
        ("control: {}", "control"),
        ("kvCache: {pairCachedTokens: maybe}", "kvCache.pairCachedTokens"),
        ("kvCache: {blockTokens: 0}", "kvCache.blockTokens"),
        ("kvCache: {tokenizer: {source: guess}}", "kvCache.tokenizer.source"),
        ("kvCache: {tokenizer: {deadline: 1h}}", "kvCache.tokenizer.deadline"),
        (
            "kvCache: {stores: [{name: s, gbps: 1, kvEvents: {endpoint: 'ipc:///x'}}]}",
            "kvCache.stores[0].kvEvents.endpoint"
        ),
        ("kvCache: {stores: [{name: s}]}", "kvCache.stores[0].gbps"),
        ("network: {betweenZones: {gbps: 0}}", "network.betweenZones.gbps"),
        ("network: {betweenRooms: {gbps: 1}}", "network.betweenRooms"),
    ])
    func namesThePlaceOfWhatIsWrong(text: String, keyPath: String) throws {
        let errors = #expect(throws: ConfigurationErrors.self) { try read(text) }
        #expect(errors?.errors.map(\.keyPath).contains(keyPath) == true)
        #expect(errors?.errors.allSatisfy { $0.line == 1 } == true)
    }
}
