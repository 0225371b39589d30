// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Dispatch
import Fleet
import Foundation
import Gateway
import Logging
import Router
import Transport

/// `epp-pd serve`: the endpoint picker.
struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Answer Envoy which model servers shall take each request. The default command.",
        discussion: """
            Flags of the reference picker (llm-d, Gateway API Inference Extension) keep their names and defaults; those \
            without effect here are accepted and named once.

            EXAMPLES
              epp-pd serve --fleet fleet.yaml --secure-serving=false
              epp-pd serve --fleet fleet.yaml --cert-path /etc/tls --enable-cert-reload --decision-log decisions.jsonl
            """
    )

    @OptionGroup var options: ServeOptions

    func run() throws {
        let signals = Signals([SIGTERM, SIGINT])
        let picker = try PickerProcess(options)
        try picker.run(until: signals)
    }
}
