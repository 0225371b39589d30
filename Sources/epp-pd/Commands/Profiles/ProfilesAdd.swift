// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Foundation

/// `epp-pd profiles add`: makes a model's entry from its config.json.
struct ProfilesAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Make a model's facts from a Hugging Face config.json.",
        discussion: """
            A model that nobody has fitted then lands on the fallback ladder with real numbers. Parameters are counted from \
            the shape, norms and biases left out. The active ones are what one token passes through, with the embeddings of \
            tokens in and out: publishers who leave these out state a little less. What the file leaves out is taken from \
            the model's family, named in the entry's source, and the entry is marked verified: false.
            Example: epp-pd profiles add --config config.json --name acme-30b --output profiles/acme-30b.yaml
            """
    )

    @OptionGroup var profiles: ProfileOptions
    @Option(help: "The model's config.json.")
    var config: String
    @Option(help: "The model's name. Default: the name of the folder that holds the file.")
    var name: String?
    @Option(help: "Further names under which servers know it. May be repeated.")
    var alias: [String] = []
    @Option(help: "The profile file to write; - = standard output.")
    var output = "-"
    @Flag(help: "Print the facts as one JSON object on one line.")
    var json = false

    func run() throws {
        let folder = URL(filePath: config).absoluteURL.deletingLastPathComponent().lastPathComponent
        let facts: ModelFacts
        do {
            facts = try ModelConfigFile.read(path: config, name: name ?? folder)
        } catch {
            Console.error("\(error)")
            throw ExitCode(1)
        }
        let text =
            "# Made by epp-pd profiles add from \(URL(filePath: config).lastPathComponent).\nmodels:\n"
            + ProfileText.model(facts, aliases: alias)
        do {
            // What is written must be readable: the loader judges it first.
            _ = try ProfileLoader.read(text: text, file: "\(config) (the entry made of it)")
            if output != "-" { try Data(text.utf8).write(to: URL(filePath: output), options: .atomic) }
        } catch {
            Console.error("\(error)")
            throw ExitCode(1)
        }
        if json {
            print(try JSONLine.encode(facts))
        } else if output == "-" {
            print(text, terminator: "")
        } else {
            let size = Numbers.fixed(facts.parameters / 1e9, 1)
            print("\(facts.name): \(size) billion parameters, \(facts.layers) layers; written to \(output)")
        }
    }
}
