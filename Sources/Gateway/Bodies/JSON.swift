// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CSimdjson

/// Why a document was not read.
enum JSONError: Error, Hashable {
    case invalid, tooDeep, tooLarge, outOfMemory
}

/// Parses one document at a time, and validates all of it. Confined to one loop.
@safe struct JSONParser: ~Copyable {
    /// A parser keeps room for the largest document it has seen, some 15 bytes a byte. Above this it is let go again.
    private static let keptCapacity = 1 << 20

    private let maxBytes: Int
    private var parser: OpaquePointer?

    /// - maxBytes: longer documents are `tooLarge`.
    init(maxBytes: Int) {
        self.maxBytes = maxBytes
        unsafe parser = nil
    }

    deinit { unsafe epp_json_parser_destroy(parser) }

    /// Lends the root of `document`, which must be padded, to `body`. No value may outlive the call.
    mutating func parse<Result>(
        _ document: borrowing PaddedBytes,
        _ body: (JSONValue) throws(APIError) -> Result
    ) throws(JSONReadError) -> Result {
        let parser = unsafe try ready()
        defer { letGo(after: document.count) }
        var root = unsafe epp_json_value()
        switch unsafe epp_json_parse(parser, document.start, document.count, &root) {
        case EPP_JSON_OK:
            do throws(APIError) {
                return unsafe try body(JSONValue(root))
            } catch {
                throw .refused(error)
            }
        case EPP_JSON_TOO_DEEP: throw .bad(.tooDeep)
        case EPP_JSON_TOO_LARGE: throw .bad(.tooLarge)
        case EPP_JSON_NO_MEMORY: throw .bad(.outOfMemory)
        default: throw .bad(.invalid)
        }
    }

    /// No honest client repeats a member that often.
    static let mostRanges = 16

    /// Where the values of the outermost object's members named `key` lie in a valid document, in its order.
    ///
    /// - Returns: nil where there are more than `mostRanges`.
    mutating func ranges(of key: String, in document: borrowing PaddedBytes) -> [Range<Int>]? {
        let limit = Self.mostRanges
        guard let parser = unsafe try? ready() else { return nil }
        defer { letGo(after: document.count) }
        var offsets = [Int](repeating: 0, count: limit)
        var lengths = offsets
        var key = key
        let found = key.withUTF8 { key in
            unsafe key.withMemoryRebound(to: CChar.self) { key in
                unsafe epp_json_locate(
                    parser,
                    document.bytes.baseAddress,
                    document.count,
                    key.baseAddress,
                    key.count,
                    &offsets,
                    &lengths,
                    limit
                )
            }
        }
        guard found <= limit else { return nil }
        return (0..<found).map { offsets[$0]..<(offsets[$0] + lengths[$0]) }
    }

    private mutating func ready() throws(JSONReadError) -> OpaquePointer {
        if let parser = unsafe parser { return unsafe parser }
        guard let made = unsafe epp_json_parser_create(maxBytes) else { throw .bad(.outOfMemory) }
        unsafe parser = made
        return unsafe made
    }

    private mutating func letGo(after count: Int) {
        guard count > Self.keptCapacity else { return }
        unsafe epp_json_parser_destroy(parser)
        unsafe parser = nil
    }
}

/// Why reading a document came to nothing: it is no good itself, or its reader refused what it says.
enum JSONReadError: Error, Hashable {
    case bad(JSONError)
    case refused(APIError)
}

/// A value in a document that is being read. Valid as long as `JSONParser.parse` lends its document.
@safe struct JSONValue {
    private let raw: epp_json_value

    init(_ raw: epp_json_value) { unsafe self.raw = raw }

    var isObject: Bool { unsafe epp_json_kind(raw) == EPP_JSON_OBJECT }
    var isArray: Bool { unsafe epp_json_kind(raw) == EPP_JSON_ARRAY }
    var isString: Bool { unsafe epp_json_kind(raw) == EPP_JSON_STRING }
    var isNull: Bool { unsafe epp_json_kind(raw) == EPP_JSON_NULL }

    /// The bytes of a string, unescaped, in UTF-8; nil for other values.
    var utf8: UnsafeRawBufferPointer? {
        var start: UnsafePointer<CChar>?
        var count = 0
        guard unsafe epp_json_string(raw, &start, &count) else { return nil }
        return unsafe UnsafeRawBufferPointer(start: start, count: count)
    }

    var string: String? { unsafe utf8.map { unsafe String(decoding: $0, as: UTF8.self) } }

    var bool: Bool? {
        var flag = false
        return unsafe epp_json_bool(raw, &flag) ? flag : nil
    }

    /// An integer that is not negative; nil for other values and other numbers.
    var natural: Int? {
        var number: Int64 = 0
        return unsafe epp_json_natural(raw, &number) ? Int(number) : nil
    }

    /// Calls `body` with each element of an array until it says stop; not at all for other values.
    func forEachElement(_ body: (JSONValue) -> Bool) {
        var cursor = unsafe epp_json_cursor()
        guard unsafe epp_json_array(raw, &cursor) else { return }
        var element = unsafe epp_json_value()
        while unsafe epp_json_next_element(&cursor, &element) {
            guard body(unsafe JSONValue(element)) else { return }
        }
    }

    /// Calls `body` with each member of an object, duplicates in their order; not at all for other values.
    func forEachMember(_ body: (_ key: UnsafeRawBufferPointer, JSONValue) -> Void) {
        var cursor = unsafe epp_json_cursor()
        guard unsafe epp_json_object(raw, &cursor) else { return }
        var start: UnsafePointer<CChar>?
        var count = 0
        var value = unsafe epp_json_value()
        while unsafe epp_json_next_member(&cursor, &start, &count, &value) {
            unsafe body(UnsafeRawBufferPointer(start: start, count: count), JSONValue(value))
        }
    }

    /// The member of that name; the last one where there are several, as model servers' parsers take it.
    subscript(_ key: StaticString) -> JSONValue? {
        var found: JSONValue?
        unsafe forEachMember { name, value in
            if unsafe name.equals(key) { found = value }
        }
        return found
    }

    /// Lends the value's text without white space.
    func withText(_ body: (UnsafeRawBufferPointer) -> Void) {
        unsafe withoutActuallyEscaping(body) { body in
            var context = unsafe TextTaker(take: body)
            unsafe withUnsafeMutablePointer(to: &context) { context in
                _ = unsafe epp_json_minify(raw, context) { context, start, count in
                    unsafe context?.assumingMemoryBound(to: TextTaker.self).pointee
                        .take(UnsafeRawBufferPointer(start: start, count: count))
                }
            }
        }
    }
}

@safe private struct TextTaker {
    let take: (UnsafeRawBufferPointer) -> Void
}
