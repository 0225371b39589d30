// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One message from Envoy, lent for the time of one call. Its bytes lie where they came.
@safe struct ProcessingRequest: ~Copyable {
    enum Phase: Hashable {
        case requestHeaders, requestBody, requestTrailers, responseHeaders, responseBody, responseTrailers
        /// A phase that this picker does not know, or none at all.
        case unknown
    }

    private(set) var phase = Phase.unknown
    /// True where Envoy only watches, and takes no answer.
    private(set) var isObservation = false
    /// How bodies will come, where the message says so: on the first one of an exchange.
    private(set) var modes: BodyModes?
    /// The message of the phase.
    private var content = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    private var metadata: UnsafeRawBufferPointer?

    private init(_ bytes: UnsafeRawBufferPointer) {
        unsafe metadata = nil
        var reader = unsafe WireReader(bytes)
        while let field = reader.next() {
            switch field.number {
            case 2: unsafe take(.requestHeaders, field.bytes)
            case 3: unsafe take(.responseHeaders, field.bytes)
            case 4: unsafe take(.requestBody, field.bytes)
            case 5: unsafe take(.responseBody, field.bytes)
            case 6: unsafe take(.requestTrailers, field.bytes)
            case 7: unsafe take(.responseTrailers, field.bytes)
            case 8: unsafe metadata = field.bytes
            case 10: isObservation = field.value != 0
            case 11: modes = unsafe Self.modes(in: field.bytes)
            default: break
            }
        }
    }

    /// Of several phases the last one counts, as oneofs have it.
    private mutating func take(_ phase: Phase, _ content: UnsafeRawBufferPointer) {
        self.phase = phase
        unsafe self.content = content
    }

    private static func modes(in configuration: UnsafeRawBufferPointer) -> BodyModes {
        func mode(_ field: UInt64) -> BodyMode {
            let value = unsafe WireReader.last(field, .number, in: configuration)?.value ?? 0
            return BodyMode(wire: Int32(truncatingIfNeeded: value))
        }
        return BodyModes(request: mode(1), response: mode(2))
    }

    /// Checks all of `bytes`, and lends the message to `body`.
    ///
    /// - Returns: false where the bytes are no such message; `body` is then not called.
    static func decode(_ bytes: UnsafeRawBufferPointer, _ body: (borrowing ProcessingRequest) -> Void) -> Bool {
        guard unsafe WireShape.request.fits(bytes) else { return false }
        body(unsafe ProcessingRequest(bytes))
        return true
    }

    var hasMetadata: Bool { unsafe metadata != nil }

    var endOfStream: Bool {
        switch phase {
        case .requestHeaders, .responseHeaders: unsafe WireReader.last(3, .number, in: content)?.value ?? 0 != 0
        case .requestBody, .responseBody: unsafe WireReader.last(2, .number, in: content)?.value ?? 0 != 0
        case .requestTrailers, .responseTrailers: true
        case .unknown: false
        }
    }

    /// The body's bytes; empty in other phases.
    var body: UnsafeRawBufferPointer {
        guard phase == .requestBody || phase == .responseBody,
            let field = unsafe WireReader.last(1, .bytes, in: content)
        else { return unsafe UnsafeRawBufferPointer(start: nil, count: 0) }
        return unsafe field.bytes
    }

    /// Lends each header of a headers message: names in lower case, as Envoy sends them.
    func forEachHeader(_ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) {
        guard phase == .requestHeaders || phase == .responseHeaders,
            let map = unsafe WireReader.last(1, .bytes, in: content)
        else { return }
        var headers = unsafe WireReader(map.bytes)
        while let header = headers.next() {
            guard header.number == 1 else { continue }
            var name = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
            var value = unsafe name
            var rawValue = unsafe name
            var fields = unsafe WireReader(header.bytes)
            while let field = fields.next() {
                switch field.number {
                case 1: unsafe name = field.bytes
                case 2: unsafe value = field.bytes
                case 3: unsafe rawValue = field.bytes
                default: break
                }
            }
            // Envoy fills raw_value, older ones and other proxies value.
            unsafe body(name, rawValue.isEmpty ? value : rawValue)
        }
    }

    /// The strings under `key` in one namespace of the filter metadata: a list's strings, or one string.
    ///
    /// - Returns: nil where the namespace or the key is absent, or the value is of another kind.
    func metadata(namespace: String, key: String) -> [String]? {
        guard let metadata = unsafe metadata, let fields = unsafe Self.entry(namespace, in: metadata),
            let value = unsafe Self.entry(key, in: fields)
        else { return nil }
        var strings: [String]?
        var kinds = unsafe WireReader(value)
        while let kind = kinds.next() {
            switch kind.number {
            case 3: strings = unsafe [String(decoding: kind.bytes, as: UTF8.self)]
            case 6: strings = unsafe Self.list(kind.bytes)
            default: break
            }
        }
        return strings
    }

    /// What the first entry of a map (field 1: key = 1, value = 2) holds under `key`.
    private static func entry(_ key: String, in map: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        var entries = unsafe WireReader(map)
        while let entry = entries.next() {
            guard entry.number == 1, let name = unsafe WireReader.last(1, .bytes, in: entry.bytes),
                unsafe name.bytes.equals(string: key),
                let value = unsafe WireReader.last(2, .bytes, in: entry.bytes)
            else { continue }
            return unsafe value.bytes
        }
        return nil
    }

    private static func list(_ bytes: UnsafeRawBufferPointer) -> [String] {
        var strings: [String] = []
        var items = unsafe WireReader(bytes)
        while let item = items.next() {
            guard item.number == 1 else { continue }
            let text = unsafe WireReader.last(3, .bytes, in: item.bytes)
            strings.append(text.map { unsafe String(decoding: $0.bytes, as: UTF8.self) } ?? "")
        }
        return strings
    }
}

extension UnsafeRawBufferPointer {
    /// True where the bytes are exactly those of `text`.
    func equals(string text: String) -> Bool {
        guard count == text.utf8.count else { return false }
        let isEqual = unsafe text.utf8.withContiguousStorageIfAvailable { unsafe equals(start: $0.baseAddress) }
        if let isEqual { return isEqual }
        return unsafe elementsEqual(text.utf8)
    }

    /// True where the bytes are exactly those of `text`.
    @inline(__always)
    func equals(_ text: StaticString) -> Bool {
        unsafe count == text.utf8CodeUnitCount && equals(start: text.utf8Start)
    }

    /// Compares with as many bytes as these are.
    @inline(__always)
    private func equals(start: UnsafePointer<UInt8>?) -> Bool {
        guard let start = unsafe start else { return unsafe isEmpty }
        for index in 0..<count where unsafe self[index] != start[index] { return false }
        return true
    }
}
