// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel
import Gateway
import Router

/// The flags of `serve`. Those of the reference picker keep its names and defaults, except where a comment says why not.
struct ServeOptions: ParsableArguments {
    @Option(help: "Endpoints, in a YAML or JSON file (docs/fleet-file.md). Reloaded when it changes.")
    var fleet: String?
    @OptionGroup var cluster: ClusterOptions
    @Option(help: "Folder of profiles. Default: the ones that come with epp-pd.")
    var profiles: String?

    // MARK: Listening

    @Option(help: "Port of the external processing service.")
    var grpcPort: UInt16 = 9002
    @Option(help: "Port of the gRPC health service, always cleartext.")
    var grpcHealthPort: UInt16 = 9003
    @Option(help: "Port of /metrics, /healthz, /readyz and /debug.")
    var metricsPort: UInt16 = 9090
    @Option(help: "Address to listen on. Default: every address.")
    var bindAddress: String?
    @Option(help: "TLS on the grpc-port.")
    var secureServing = true
    @Option(help: "Folder that holds tls.crt and tls.key. Default: a self-signed certificate is made at start.")
    var certPath: String?
    @Option(help: "Load the certificate again when its files change.")
    var enableCertReload = false
    @Option(help: "Lowest TLS version: 1.2 or 1.3.")
    var tlsMinVersion: TLSMinimum = .v1_2
    /// The reference picker's default is false. Gateways of today point their health check at the grpc-port.
    @Option(help: "Health service on the grpc-port too.")
    var healthChecking = true
    @Option(help: "Largest gRPC message taken, in bytes. Default: 4 MiB, or what the largest body needs.")
    var grpcMaxRecvMsgSize: Int?
    @Option(help: "Data-plane threads. Default: one for each two cores, at least 1, at most 4.")
    var loops: Int?
    @Option(help: "After SIGTERM: how long open requests may go on.")
    var drainTimeout = DurationArgument("30s")

    // MARK: Knowledge

    @Option(help: "Fastest interval of scraping an endpoint; idle ones are scraped less often.")
    var refreshMetricsInterval = DurationArgument("50ms")
    @Option(help: "Metrics older than this count as unknown.")
    var metricsStalenessThreshold = DurationArgument("2s")
    @Option(help: "Most memory of the prefix index, in MiB.")
    var prefixIndexMib = 1024
    @Option(help: "Keep what engines say they cache in this file over restarts.")
    var prefixIndexFile: String?

    @Option(help: "Keep what is learned of each pod in this file over restarts.")
    var calibrationFile: String?

    // MARK: Requests

    @Option(help: "Take no notice of the gateway's subset hint.")
    var disableEndpointSubsetFilter = false
    @Option(help: "Largest request body, in bytes. Larger ones are answered 413.")
    var maxBodyBytes = 20 << 20
    @Option(
        help: "Most memory for request bodies that come, wait or are being sent on, in MiB. Beyond: new ones get 503."
    )
    var bodyMemoryMib = 1024
    /// As long as a gateway's usual idle time-out.
    @Option(help: "Longest time that a request's body may take to come; then 408. 0: no limit.")
    var uploadTimeout = DurationArgument("5m")
    /// Longer than any answer takes; as long as the idle time-out of deploy/envoy.
    @Option(help: "Longest time from a request's decision to its answer's end; then 504, or a cut answer. 0: no limit.")
    var requestTimeout = DurationArgument("1h")
    @Option(help: "Route requests for models that no pod serves, instead of answering 404.")
    var passUnknownModels = false
    @Option(help: "Destinations to name in a request, best first. More than 1 only for gateways that take a list.")
    var destinations = 1
    @Option(help: "What the end of a stream means where Envoy sends no response bodies: response-end or early.")
    var streamEnd = StreamEndArgument.responseEnd
    @Flag(
        help: """
            Ask Envoy for request bodies, and some response bodies, by mode overrides (deploy/envoy/sampled.yaml; Envoy 1.40).
            """
    )
    var overrideModes = false
    @Option(help: "Share of requests whose response bodies are asked for with --override-modes, 0 to 1.")
    var observeShare = LeanObservation.defaultShare
    @Flag(help: "Leave each exchange once its request is routed: the picker then sees nothing of answers.")
    var skim = false
    @Option(help: "Service levels, constraints, priorities and dials, in a YAML or JSON file (docs/configuration.md).")
    var config: String?
    @Option(help: "What weighs more: latency, balanced or cost. Default: what --config says, else latency.")
    var mode: Mode?
    @Option(
        help: """
            Bind requests late (by a queue) or early (on arrival). Default: early with --skim, else as --config says, else \
            late.
            """
    )
    var binding: Binding?
    @Option(help: "Seed of the draws that break ties. Default: a random one, which the log names.")
    var seed: UInt64?

    // MARK: Scaling

    @Option(help: "How long requests wait while there is no pod at all. 0: refused at once.")
    var noEndpointWait = DurationArgument("0s")
    @Option(help: "What a pod takes to start: desired replicas look so far ahead.")
    var autoscalingPodStartTime = DurationArgument("1m")
    @Option(help: "Desired replicas fall only when nothing of so long ago speaks against it.")
    var autoscalingScaleDownWindow = DurationArgument("5m")
    @Option(help: "Serve KEDA's external scaler on the grpc-port.")
    var externalScaler = false
    @Option(help: "Port of the external.metrics.k8s.io API, over TLS. 0: off.")
    var externalMetricsPort: UInt16 = 0
    @Option(help: "Folder that holds tls.crt and tls.key of that port. Default: a self-signed certificate.")
    var externalMetricsCertPath: String?
    @Option(help: "Authority of the clients of that port: the front proxy's, as a PEM file.")
    var externalMetricsClientCaFile: String?
    @Option(help: "Names of clients of that port, separated by commas; empty: every one that the authority signed.")
    var externalMetricsAllowedNames = "front-proxy-client"

    @OptionGroup(title: "Replicas")
    var replicas: ReplicaOptions

    // MARK: Header names

    @Option(help: "Header and metadata key of the destination.")
    var destinationHeader = HeaderNames().destination
    @Option(help: "Header of the prefill pod.")
    var prefillerHeader = HeaderNames().prefiller

    // MARK: What it tells

    @Option(help: "Write decisions as JSON lines to this file; - is standard output.")
    var decisionLog: String?
    @Option(help: "Share of decisions that are written, 0 to 1.")
    var decisionLogSample = 1.0
    @Option(
        name: [.customShort("v"), .customLong("v")],
        help: "Verbosity: 0 warnings, 2 information, 4 debug, 5 trace."
    )
    var verbosity = 2
    @Option(help: "Log lines on standard error: text or json.")
    var logFormat = LogFormat.text
    @Option(help: "Tell clients the decision in x-epp-pd-decision: names of pods, predicted milliseconds and dollars.")
    var decisionHeader = false
    @Option(help: "Model time runs so many times faster than wall time: for tests and demos with mock servers.")
    var timeScale = 1.0

    func validate() throws {
        guard (fleet == nil ? 0 : 1) + cluster.sources == 1 else {
            throw ValidationError("exactly one of --fleet, --pool-name and --endpoint-selector must be given")
        }
        guard timeScale.isFinite, timeScale > 0, timeScale <= 1000 else {
            throw ValidationError("--time-scale must be above 0 and at most 1000")
        }
        guard timeScale == 1 || fleet != nil else {
            throw ValidationError("--time-scale is for mock servers, and goes with --fleet only")
        }
        guard externalMetricsPort == 0 || externalMetricsClientCaFile != nil else {
            throw ValidationError("--external-metrics-port needs --external-metrics-client-ca-file")
        }
        guard decisionLogSample.isFinite, (0...1).contains(decisionLogSample) else {
            throw ValidationError("--decision-log-sample must be from 0 to 1")
        }
        guard observeShare.isFinite, (0...1).contains(observeShare) else {
            throw ValidationError("--observe-share must be from 0 to 1")
        }
        guard !(skim && overrideModes) else { throw ValidationError("--skim and --override-modes exclude each other") }
        guard (1...16).contains(destinations) else { throw ValidationError("--destinations must be from 1 to 16") }
        guard loops.map({ (1...RequestNumbers.maxLoops).contains($0) }) ?? true else {
            throw ValidationError("--loops must be from 1 to \(RequestNumbers.maxLoops)")
        }
        guard (64...1 << 30).contains(maxBodyBytes) else {
            throw ValidationError("--max-body-bytes must be from 64 to \(1 << 30)")
        }
        guard bodyMemoryMib >= (maxBodyBytes + (1 << 20) - 1) >> 20, bodyMemoryMib <= 1 << 20 else {
            throw ValidationError("--body-memory-mib must hold at least one --max-body-bytes, and at most \(1 << 20)")
        }
        guard (1 << 16...1 << 30).contains(maxMessageBytes) else {
            throw ValidationError("--grpc-max-recv-msg-size must be from \(1 << 16) to \(1 << 30)")
        }
        guard (1...1 << 20).contains(prefixIndexMib) else {
            throw ValidationError("--prefix-index-mib must be from 1 to \(1 << 20)")
        }
        guard refreshMetricsInterval.value.rawValue >= 0.001 else {
            throw ValidationError("--refresh-metrics-interval must be 1ms or longer")
        }
        guard metricsStalenessThreshold.value > refreshMetricsInterval.value else {
            throw ValidationError("--metrics-staleness-threshold must be longer than --refresh-metrics-interval")
        }
    }
}

extension ServeOptions {
    /// A body that Envoy buffers comes as one message, with some fields around it.
    private static let messageOverhead = 64 << 10

    var maxMessageBytes: Int {
        grpcMaxRecvMsgSize ?? min(max(4 << 20, maxBodyBytes + Self.messageOverhead), 1 << 30)
    }
}

/// What is seen of answers where Envoy is configured lean.
enum LeanObservation {
    /// The smallest share that keeps what orders requests (docs/results/data-path.md).
    static let defaultShare = 0.25
}

enum TLSMinimum: String, ExpressibleByArgument, CaseIterable {
    case v1_2 = "1.2"
    case v1_3 = "1.3"

    /// Go's name for it is accepted too.
    init?(argument: String) {
        let plain = argument.replacing("VersionTLS1", with: "1.")
        self.init(rawValue: plain)
    }
}

enum StreamEndArgument: String, ExpressibleByArgument, CaseIterable {
    case responseEnd = "response-end"
    case early

    var value: ExchangeOptions.StreamEnd { self == .early ? .isEarly : .isResponseEnd }
}

extension LogFormat: ExpressibleByArgument {}
extension Mode: ExpressibleByArgument {}
extension Binding: ExpressibleByArgument {}
