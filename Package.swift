// swift-tools-version: 6.2
import PackageDescription

/// One settings array for every Swift target. See docs/decisions/0002-swift-settings.md.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .enableExperimentalFeature("Lifetimes"),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
]

/// A room of the house: a library target with the common settings.
func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// The tests of one room, in Tests/<name>Tests.
func tests(_ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = []) -> Target {
    .testTarget(
        name: "\(name)Tests",
        dependencies: [.byName(name: name), "TestSupport"] + dependencies,
        resources: resources,
        swiftSettings: settings
    )
}

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let heap = Target.Dependency.product(name: "HeapModule", package: "swift-collections")
let httpServer = Target.Dependency.product(name: "FlyingFox", package: "FlyingFox")
let sockets = Target.Dependency.product(name: "FlyingSocks", package: "FlyingFox")

let package = Package(
    name: "epp-pd",
    products: [.executable(name: "epp-pd", targets: ["epp-pd"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        .package(url: "https://github.com/jpsim/Yams", exact: "6.2.2"),
        .package(url: "https://github.com/swhitty/FlyingFox", exact: "0.27.1"),
    ],
    targets: [
        // C libraries: a module map and a shim each, nothing else.
        .systemLibrary(name: "CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
        .systemLibrary(name: "CZMQ", providers: [.apt(["libzmq3-dev"])]),
        .systemLibrary(name: "CLinux"),
        // Vector compares of the prefix index, and its reserved memory.
        .target(name: "CIndexKernels"),
        // Messages generated from Sources/CExtProc/proto by scripts/generate-protobuf: what tests check our own against.
        .target(name: "CExtProc", exclude: ["proto"], linkerSettings: [.linkedLibrary("protobuf-c")]),
        // A C++ shim with a C interface over simdjson.
        .target(
            name: "CSimdjson",
            linkerSettings: [.linkedLibrary("simdjson"), .linkedLibrary("stdc++")]
        ),

        // State that threads share.
        room("Locks"),
        // Pure rooms: no I/O.
        room("CostModel"),
        room("PrefixIndex", ["Locks", "CIndexKernels", "CLZ4", "CXXHash"]),
        room("Router", ["CostModel", "PrefixIndex", heap]),
        room("Gateway", ["Router", "PrefixIndex", "CostModel", "CNghttp2", "CSimdjson", "CZlib"]),
        room("Autoscaling", ["Router", "CostModel"]),
        room("Telemetry", ["Router", "CostModel", "Autoscaling"]),
        room("Simulation", ["Router", "CostModel", "PrefixIndex", heap]),
        // Rooms with I/O.
        room("Configuration", ["Router", "CostModel", "CZlib", yams]),
        room("Transport", ["Gateway", "Locks", "COpenSSL", "CLinux", logging]),
        room("Fleet", ["Router", "CostModel", "PrefixIndex", "Configuration", "CCurl", "CZMQ", logging]),
        room("Kubernetes", ["CostModel", "Router", "Configuration", "Fleet", "CCurl", logging]),
        .executableTarget(
            name: "epp-pd",
            dependencies: [
                "CostModel", "PrefixIndex", "Router", "Gateway", "Transport", "Configuration", "Fleet", "Telemetry",
                "Kubernetes", "Autoscaling",
                "Simulation", "CLinux", "CSimdjson", "CZlib", argumentParser, logging, httpServer, sockets,
            ],
            swiftSettings: settings
        ),

        // What tests share: seeded generators, fixtures, the place of the shared data.
        .target(name: "TestSupport", dependencies: ["CNghttp2"], path: "Tests/TestSupport", swiftSettings: settings),
        tests("CostModel", ["Configuration"]),
        tests("PrefixIndex"),
        tests("Router", ["CostModel", "PrefixIndex"]),
        tests("Gateway", ["Router", "CostModel", "PrefixIndex", "CExtProc"]),
        tests("Autoscaling", ["Router", "CostModel", "Simulation"]),
        tests("Telemetry", ["Router", "CostModel", "Autoscaling"]),
        tests("Simulation", ["Router", "CostModel", "PrefixIndex"]),
        tests("Configuration", ["Router", "CostModel"]),
        tests("Transport", ["Gateway"]),
        tests("Fleet", ["Router", "CostModel", "Configuration", "PrefixIndex", "Locks", logging]),
        tests("Kubernetes", ["CostModel", "Router", "Configuration", "Fleet", "Locks", "CCurl", logging]),
        // Tests of the repository itself.
        .testTarget(name: "TidyTests", swiftSettings: settings),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "epp-pd", "Autoscaling", "Configuration", "CostModel", "Fleet", "Gateway", "Router", argumentParser,
                logging,
            ],
            swiftSettings: settings
        ),
    ],
    cxxLanguageStandard: .cxx17
)

// Fuzz targets have no main function of their own, so that an ordinary build must not link them: scripts/fuzz.
if Context.environment["FUZZING"] != nil {
    package.targets.append(
        .executableTarget(
            name: "FuzzExchange",
            dependencies: ["Gateway", "Router"],
            path: "Tests/Fuzzing/FuzzExchange",
            swiftSettings: settings
        )
    )
    for name in ["FuzzKVEvents", "FuzzSnapshot"] {
        package.targets.append(
            .executableTarget(
                name: name,
                dependencies: ["PrefixIndex"],
                path: "Tests/Fuzzing/\(name)",
                exclude: name == "FuzzKVEvents" ? ["Corpus"] : [],
                swiftSettings: settings
            )
        )
    }
}

// Programs that measure: BENCHMARKS=1 swift build -c release --product epp-pd-bench.
if Context.environment["BENCHMARKS"] != nil {
    package.products.append(.executable(name: "epp-pd-bench", targets: ["epp-pd-bench"]))
    // Counts allocations in place of glibc's functions: in programs that measure only.
    package.targets.append(.target(name: "CAllocations"))
    package.targets.append(
        .executableTarget(
            name: "epp-pd-bench",
            dependencies: [
                "PrefixIndex", "Router", "CostModel", "Gateway", "Transport", "Configuration", "CLinux", "CAllocations",
                argumentParser, heap,
            ],
            swiftSettings: settings
        )
    )
}
