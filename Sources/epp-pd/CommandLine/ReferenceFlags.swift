// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Turns a command line written for the reference picker into one that our parser understands.
///
/// Go's flag package takes `-flag` and `--flag` alike, which manifests make use of (`-v=3`, `-grpc-port=9002`), and a boolean as `--flag` or `--flag=false`, never `--flag false`.
/// Flags of that picker that have no effect here are dropped, and named, so that a deployment can move over unchanged.
struct ReferenceFlags {
    /// The arguments for our parser.
    var arguments: [String]
    /// Flags that were dropped, in the order given, each once.
    var ignored: [String] = []

    /// Our own boolean options: `--x` means `--x=true`.
    static let booleans: Set<String> = [
        "secure-serving", "enable-cert-reload", "health-checking", "disable-endpoint-subset-filter",
        "pass-unknown-models", "external-scaler", "metrics-endpoint-auth", "ha-enable-leader-election",
        "decision-header",
    ]

    /// Boolean flags of the reference picker without effect here.
    private static let ignoredBooleans: Set<String> = [
        "enable-pprof", "tracing", "emit-endpoint-scores", "allow-experimental-plugins", "enable-grpc-stream-metrics",
        "zap-devel",
    ]

    /// Flags with a value of the reference picker without effect here.
    private static let ignoredValues: Set<String> = [
        "refresh-prometheus-metrics-interval", "grpc-max-send-msg-size", "tls-cipher-suites", "config-file",
        "config-text",
        "zap-encoder", "zap-log-level", "zap-stacktrace-level", "zap-time-encoding", "metrics-cert-dir",
        "metrics-client-ca-file",
    ]

    init(_ given: [String]) {
        arguments = []
        var rest = given[...]
        while let given = rest.popFirst() {
            let argument = Self.doubleDashed(given)
            guard argument.hasPrefix("--"), argument.count > 2 else {
                arguments.append(argument)
                continue
            }
            let body = argument.dropFirst(2)
            let name = String(body.prefix { $0 != "=" })
            let hasValue = body.contains("=")
            if Self.ignoredBooleans.contains(name) {
                ignore(name)
            } else if Self.ignoredValues.contains(name) {
                ignore(name)
                if !hasValue { rest = rest.dropFirst() }
            } else if Self.booleans.contains(name), !hasValue {
                let next = rest.first
                if next == "true" || next == "false" {
                    arguments.append(argument)
                } else {
                    arguments.append(argument + "=true")
                }
            } else {
                arguments.append(argument)
            }
        }
    }

    /// `-flag` as `--flag`. Our only short option is `-h`; what begins with a digit is a negative number.
    private static func doubleDashed(_ argument: String) -> String {
        let name = argument.dropFirst().prefix { $0 != "=" }
        guard argument.hasPrefix("-"), name.first?.isLetter == true, name != "h" else { return argument }
        return "-" + argument
    }

    private mutating func ignore(_ name: String) {
        if !ignored.contains(name) { ignored.append(name) }
    }
}
