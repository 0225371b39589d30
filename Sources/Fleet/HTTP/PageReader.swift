// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What becomes of a page's bytes while they arrive.
enum PageReader: Sendable {
    case metrics(MetricsPageScanner)
    case models([UInt8])

    mutating func consume(_ bytes: Span<UInt8>) {
        switch self {
        case .metrics(var scanner):
            // Emptied first, so that the scanner's arrays have one owner and are not copied.
            self = .models([])
            scanner.consume(bytes)
            self = .metrics(scanner)
        case .models(var body):
            self = .models([])
            for index in bytes.indices { body.append(bytes[index]) }
            self = .models(body)
        }
    }

    mutating func finish() -> Result<FleetMachine.Content, FetchFailure> {
        switch self {
        case .metrics(var scanner):
            .success(.metrics(scanner.finish()))
        case .models(let body):
            ModelList.parse(body).map { .success(.models($0)) } ?? .failure(.garbage)
        }
    }
}
