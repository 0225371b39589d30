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
    /// Says so itself where the phase has such a field; trailers are an end.
    private(set) var endOfStream = false
    /// The body's bytes; empty in other phases.
    private(set) var body = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    /// The headers of a headers message. Looked at by `forEachHeader` alone.
    private var headers: UnsafeRawBufferPointer?
    private var metadata: UnsafeRawBufferPointer?

    /// Reads all but header maps. nil where that much shows that the bytes are no such message.
    private init?(_ bytes: UnsafeRawBufferPointer) {
        unsafe headers = nil
        unsafe metadata = nil
        var reader = unsafe WireReader(bytes)
        while let field = reader.next() {
            switch field.number {
            case 2...7:
                // Of several phases the last one counts, as oneofs have it: rare enough to check all that is passed over.
                if phase != .unknown {
                    guard unsafe WireShape.request.fits(bytes) else { return nil }
                    endOfStream = false
                    unsafe body = UnsafeRawBufferPointer(start: nil, count: 0)
                    unsafe headers = nil
                }
                guard field.kind == .bytes, unsafe take(field.number, field.bytes) else { return nil }
            case 8:
                guard field.kind == .bytes, unsafe WireShape.metadata.fits(field.bytes) else { return nil }
                unsafe metadata = field.bytes
            case 10:
                guard field.kind == .number else { return nil }
                isObservation = field.value != 0
            case 11:
                guard field.kind == .bytes, unsafe WireShape.configuration.fits(field.bytes) else { return nil }
                modes = unsafe Self.modes(in: field.bytes)
            default: break
            }
        }
        if reader.isMalformed { return nil }
    }

    /// The message of a phase. - Returns: false where it is none.
    private mutating func take(_ number: UInt64, _ content: UnsafeRawBufferPointer) -> Bool {
        switch number {
        case 2: phase = .requestHeaders
        case 3: phase = .responseHeaders
        case 4: phase = .requestBody
        case 5: phase = .responseBody
        case 6: phase = .requestTrailers
        default: phase = .responseTrailers
        }
        var reader = unsafe WireReader(content)
        switch phase {
        case .requestHeaders, .responseHeaders:
            while let field = reader.next() {
                if field.number == 1 {
                    // Parsers join several maps; nobody sends them, and the last one counts here.
                    if let before = unsafe headers, unsafe !WireShape.headerMap.fits(before) { return false }
                    guard field.kind == .bytes else { return false }
                    unsafe headers = field.bytes
                } else if field.number == 3 {
                    guard field.kind == .number else { return false }
                    endOfStream = field.value != 0
                }
            }
        case .requestBody, .responseBody:
            while let field = reader.next() {
                if field.number == 1 {
                    guard field.kind == .bytes else { return false }
                    unsafe body = field.bytes
                } else if field.number == 2 {
                    guard field.kind == .number else { return false }
                    endOfStream = field.value != 0
                }
            }
        case .requestTrailers, .responseTrailers, .unknown:
            endOfStream = true
            return unsafe WireShape.trailers.fits(content)
        }
        return !reader.isMalformed
    }

    private static func modes(in configuration: UnsafeRawBufferPointer) -> BodyModes {
        func mode(_ field: UInt64) -> BodyMode {
            let value = unsafe WireReader.last(field, .number, in: configuration)?.value ?? 0
            return BodyMode(wire: Int32(truncatingIfNeeded: value))
        }
        return BodyModes(request: mode(1), response: mode(2))
    }

    /// Checks `bytes` but for the headers in them, which `forEachHeader` checks, and lends the message to `body`.
    ///
    /// - Returns: false where the bytes are no such message; `body` is then not called.
    static func decode(_ bytes: UnsafeRawBufferPointer, _ body: (borrowing ProcessingRequest) -> Void) -> Bool {
        guard let request = unsafe ProcessingRequest(bytes) else { return false }
        body(request)
        return true
    }

    var hasMetadata: Bool { unsafe metadata != nil }

    /// Lends each header of a headers message: names in lower case, as Envoy sends them.
    ///
    /// - Returns: false where what holds them is malformed; some may then have been lent.
    func forEachHeader(_ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) -> Bool {
        guard let map = unsafe headers else { return true }
        var headers = unsafe WireReader(map)
        while let header = headers.next() {
            guard header.number == 1 else { continue }
            guard header.kind == .bytes else { return false }
            if let (name, value) = unsafe Self.plain(header.bytes) {
                unsafe body(name, value)
                continue
            }
            var name = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
            var value = unsafe name
            var rawValue = unsafe name
            var fields = unsafe WireReader(header.bytes)
            while let field = fields.next() {
                guard (1...3).contains(field.number) else { continue }
                guard field.kind == .bytes else { return false }
                switch field.number {
                case 1: unsafe name = field.bytes
                case 2: unsafe value = field.bytes
                default: unsafe rawValue = field.bytes
                }
            }
            if fields.isMalformed { return false }
            // Envoy fills raw_value, older ones and other proxies value.
            unsafe body(name, rawValue.isEmpty ? value : rawValue)
        }
        return !headers.isMalformed
    }

    /// A header as Envoy writes it: a name and one value, neither long. nil for any other.
    @inline(__always)
    private static func plain(
        _ header: UnsafeRawBufferPointer
    ) -> (name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
        guard header.count >= 4, unsafe header[0] == 1 << 3 | 2 else { return nil }
        let nameEnd = unsafe 2 + Int(header[1])
        guard unsafe header[1] < 0x80, nameEnd + 2 <= header.count,
            unsafe header[nameEnd] == 2 << 3 | 2 || header[nameEnd] == 3 << 3 | 2,
            unsafe header[nameEnd + 1] < 0x80 && nameEnd + 2 + Int(header[nameEnd + 1]) == header.count
        else { return nil }
        return unsafe (
            UnsafeRawBufferPointer(rebasing: header[2..<nameEnd]),
            UnsafeRawBufferPointer(rebasing: header[(nameEnd + 2)...])
        )
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
