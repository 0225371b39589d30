// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CExtProc

/// Writes answers to Envoy straight into a call's send buffer. Confined to one loop.
@safe final class ResponseEncoder {
    /// Largest piece of a body in one streamed answer: some proxies cap messages at 64 KiB.
    static let chunkSize = 62_000
    /// `HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD`. The default would append to a client's header.
    private static let overwrite: Int32 = 2

    enum Direction {
        case request, response
    }

    /// Which headers a request gets besides its destination.
    private struct Steering: OptionSet {
        let rawValue: Int
        static let destination = Steering(rawValue: 1)
        static let prefiller = Steering(rawValue: 2)
        static let kvSource = Steering(rawValue: 4)
        static let combinations = 8
    }

    private let arena: MessageArena
    /// Never given back while the encoder lives: what every request repeats.
    private let constants = MessageArena()
    private let destination, prefiller, kvSource, contentLength, namespace, decision: ProtobufCBinaryData
    /// By what is set: the names to remove.
    private let removed: UnsafeMutablePointer<(names: UnsafeMutablePointer<ProtobufCBinaryData>, count: Int)>

    init(arena: MessageArena, names: HeaderNames) {
        self.arena = arena
        unsafe destination = constants.bytes(names.destination)
        unsafe prefiller = constants.bytes(names.prefiller)
        unsafe kvSource = constants.bytes(names.kvSource)
        unsafe contentLength = constants.bytes("content-length")
        unsafe decision = constants.bytes(names.decision)
        unsafe namespace = constants.bytes(names.destinationNamespace)
        unsafe removed = constants.list(
            of: (names: UnsafeMutablePointer<ProtobufCBinaryData>, count: Int).self,
            count: Steering.combinations
        )
        for combination in 0..<Steering.combinations {
            let steering = Steering(rawValue: combination)
            let set = [
                (Steering.destination, names.destination), (.prefiller, names.prefiller), (.kvSource, names.kvSource),
            ]
            let rest = names.removed(setting: set.filter { steering.contains($0.0) }.map(\.1))
            let list = unsafe constants.list(of: ProtobufCBinaryData.self, count: rest.count)
            for (index, name) in rest.enumerated() { unsafe (list + index).initialize(to: constants.bytes(name)) }
            unsafe (removed + combination).initialize(to: (list, rest.count))
        }
    }

    /// Answers request headers: sends the request along `route`, or, where it is nil, lets the headers pass without what
    /// steers requests, because the decision comes with the body.
    func requestHeaders(_ route: Route?, destinations: String, contentLength: Int?, to call: any GRPCCall) {
        arena.scope {
            let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_REQUEST_HEADERS)
            let headers = unsafe arena.make(epp__headers_response__init)
            unsafe answer.pointee.request_headers = headers
            unsafe headers.pointee.response = routing(
                route,
                destinations: destinations,
                contentLength: contentLength,
                answer
            )
            unsafe send(answer, to: call)
        }
    }

    /// Answers a buffered request body: sends the request along `route`, with `body` in place of the client's unless nil.
    func bufferedBody(_ route: Route, destinations: String, body: UnsafeRawBufferPointer?, to call: any GRPCCall) {
        arena.scope {
            let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_REQUEST_BODY)
            let wrapper = unsafe arena.make(epp__body_response__init)
            unsafe answer.pointee.request_body = wrapper
            let common = unsafe routing(
                route,
                destinations: destinations,
                contentLength: body.map { $0.count },
                answer
            )
            if let body = unsafe body {
                let mutation = unsafe arena.make(epp__body_mutation__init)
                unsafe mutation.pointee.mutation_case = EPP__BODY_MUTATION__MUTATION_BODY
                unsafe mutation.pointee.body = ProtobufCBinaryData(lending: body)
                unsafe common.pointee.body_mutation = mutation
            }
            unsafe wrapper.pointee.response = common
            unsafe send(answer, to: call)
        }
    }

    /// Sends a body on in pieces of `chunkSize`. An empty body that ends the stream is one empty piece.
    func streamedBody(
        _ body: UnsafeRawBufferPointer,
        endOfStream: Bool,
        _ direction: Direction,
        to call: any GRPCCall
    ) {
        var rest = unsafe body[...]
        repeat {
            let piece = unsafe rest.prefix(Self.chunkSize)
            unsafe rest = rest.dropFirst(piece.count)
            guard unsafe !piece.isEmpty || endOfStream else { return }
            arena.scope {
                let common = unsafe arena.make(epp__common_response__init)
                let mutation = unsafe arena.make(epp__body_mutation__init)
                let streamed = unsafe arena.make(epp__streamed_body_response__init)
                unsafe streamed.pointee.body = ProtobufCBinaryData(lending: UnsafeRawBufferPointer(rebasing: piece))
                unsafe streamed.pointee.end_of_stream = endOfStream && rest.isEmpty ? 1 : 0
                unsafe mutation.pointee.mutation_case = EPP__BODY_MUTATION__MUTATION_STREAMED_RESPONSE
                unsafe mutation.pointee.streamed_response = streamed
                unsafe common.pointee.body_mutation = mutation
                unsafe sendBody(common, direction, to: call)
            }
        } while unsafe !rest.isEmpty
    }

    /// Lets a chunk of body pass as it is, where bodies are streamed or buffered.
    func bareBody(_ direction: Direction, to call: any GRPCCall) {
        arena.scope { unsafe sendBody(arena.make(epp__common_response__init), direction, to: call) }
    }

    /// Lets response headers pass, with `text` in the header that tells of the decision.
    func responseHeaders(decision text: String?, to call: any GRPCCall) {
        arena.scope {
            let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_RESPONSE_HEADERS)
            let headers = unsafe arena.make(epp__headers_response__init)
            let common = unsafe arena.make(epp__common_response__init)
            if let text {
                let mutation = unsafe arena.make(epp__header_mutation__init)
                unsafe mutation.pointee.set_headers = arena.list(
                    of: UnsafeMutablePointer<Epp__HeaderValueOption>?.self,
                    count: 1
                )
                unsafe set(decision, text, in: mutation)
                unsafe common.pointee.header_mutation = mutation
            }
            unsafe headers.pointee.response = common
            unsafe answer.pointee.response_headers = headers
            unsafe send(answer, to: call)
        }
    }

    func trailers(_ direction: Direction, to call: any GRPCCall) {
        arena.scope {
            let trailers = unsafe arena.make(epp__trailers_response__init)
            switch direction {
            case .request:
                let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_REQUEST_TRAILERS)
                unsafe answer.pointee.request_trailers = trailers
                unsafe send(answer, to: call)
            case .response:
                let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_RESPONSE_TRAILERS)
                unsafe answer.pointee.response_trailers = trailers
                unsafe send(answer, to: call)
            }
        }
    }

    func immediate(_ answer: ImmediateAnswer, to call: any GRPCCall) {
        arena.scope {
            let message = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_IMMEDIATE_RESPONSE)
            let immediate = unsafe arena.make(epp__immediate_response__init)
            let status = unsafe arena.make(epp__http_status__init)
            let headers = unsafe arena.make(epp__header_mutation__init)
            unsafe headers.pointee.set_headers = arena.list(
                of: UnsafeMutablePointer<Epp__HeaderValueOption>?.self,
                count: answer.headers.count
            )
            for header in answer.headers { unsafe set(arena.bytes(header.name), header.value, in: headers) }
            unsafe status.pointee.code = Int32(clamping: answer.status)
            unsafe immediate.pointee.status = status
            unsafe immediate.pointee.headers = headers
            unsafe immediate.pointee.body = arena.bytes(answer.body)
            unsafe immediate.pointee.details = arena.bytes(answer.details)
            unsafe message.pointee.immediate_response = immediate
            unsafe send(message, to: call)
        }
    }

    // MARK: - Parts

    private func response(_ phase: Epp__ProcessingResponse__ResponseCase) -> UnsafeMutablePointer<
        Epp__ProcessingResponse
    > {
        let answer = unsafe arena.make(epp__processing_response__init)
        unsafe answer.pointee.response_case = phase
        return unsafe answer
    }

    /// The header changes of `route`, and its destination in the dynamic metadata of `answer`.
    private func routing(
        _ route: Route?,
        destinations: String,
        contentLength length: Int?,
        _ answer: UnsafeMutablePointer<Epp__ProcessingResponse>
    ) -> UnsafeMutablePointer<Epp__CommonResponse> {
        let common = unsafe arena.make(epp__common_response__init)
        let mutation = unsafe arena.make(epp__header_mutation__init)
        unsafe mutation.pointee.set_headers = arena.list(
            of: UnsafeMutablePointer<Epp__HeaderValueOption>?.self,
            count: 4
        )
        var steering: Steering = []
        if let route {
            unsafe common.pointee.clear_route_cache = 1
            unsafe answer.pointee.dynamic_metadata = metadata(destinations)
            steering.insert(.destination)
            unsafe set(destination, destinations, in: mutation)
            if let value = route.prefiller {
                steering.insert(.prefiller)
                unsafe set(prefiller, value, in: mutation)
            }
            if let value = route.kvSource {
                steering.insert(.kvSource)
                unsafe set(kvSource, value, in: mutation)
            }
        }
        if let length { unsafe set(contentLength, String(length), in: mutation) }
        unsafe mutation.pointee.n_remove_headers = removed[steering.rawValue].count
        unsafe mutation.pointee.remove_headers = removed[steering.rawValue].names
        unsafe common.pointee.header_mutation = mutation
        return unsafe common
    }

    /// Appends a header to `mutation`, whose list has room for it.
    private func set(
        _ name: ProtobufCBinaryData,
        _ value: String,
        in mutation: UnsafeMutablePointer<Epp__HeaderMutation>
    ) {
        let header = unsafe arena.make(epp__header_value__init)
        unsafe header.pointee.key = name
        unsafe header.pointee.raw_value = arena.bytes(value)
        let option = unsafe arena.make(epp__header_value_option__init)
        unsafe option.pointee.header = header
        unsafe option.pointee.append_action = Self.overwrite
        unsafe (mutation.pointee.set_headers + mutation.pointee.n_set_headers).initialize(to: option)
        unsafe mutation.pointee.n_set_headers += 1
    }

    private func metadata(_ destinations: String) -> UnsafeMutablePointer<Epp__NamespacedStruct> {
        let value = unsafe arena.make(epp__value__init)
        unsafe value.pointee.kind_case = EPP__VALUE__KIND_STRING_VALUE
        unsafe value.pointee.string_value = arena.bytes(destinations)
        let field = unsafe arena.make(epp__field_entry__init)
        unsafe field.pointee.key = destination
        unsafe field.pointee.value = value
        let inner = unsafe arena.make(epp__struct__init)
        unsafe inner.pointee.n_fields = 1
        unsafe inner.pointee.fields = arena.list(of: UnsafeMutablePointer<Epp__FieldEntry>?.self, count: 1)
        unsafe inner.pointee.fields.initialize(to: field)
        let nested = unsafe arena.make(epp__namespace_value__init)
        unsafe nested.pointee.struct_value = inner
        let spaceField = unsafe arena.make(epp__namespace_field__init)
        unsafe spaceField.pointee.key = namespace
        unsafe spaceField.pointee.value = nested
        let outer = unsafe arena.make(epp__namespaced_struct__init)
        unsafe outer.pointee.n_fields = 1
        unsafe outer.pointee.fields = arena.list(of: UnsafeMutablePointer<Epp__NamespaceField>?.self, count: 1)
        unsafe outer.pointee.fields.initialize(to: spaceField)
        return unsafe outer
    }

    private func sendBody(
        _ common: UnsafeMutablePointer<Epp__CommonResponse>,
        _ direction: Direction,
        to call: any GRPCCall
    ) {
        let body = unsafe arena.make(epp__body_response__init)
        unsafe body.pointee.response = common
        switch direction {
        case .request:
            let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_REQUEST_BODY)
            unsafe answer.pointee.request_body = body
            unsafe send(answer, to: call)
        case .response:
            let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_RESPONSE_BODY)
            unsafe answer.pointee.response_body = body
            unsafe send(answer, to: call)
        }
    }

    private func send(_ message: UnsafeMutablePointer<Epp__ProcessingResponse>, to call: any GRPCCall) {
        let size = unsafe epp__processing_response__get_packed_size(message)
        unsafe call.send(size: size) { buffer in
            // A buffer of another size would break the GRPCCall contract; leave it alone rather than write beyond it.
            guard buffer.count >= size, let start = buffer.baseAddress else { return }
            _ = unsafe epp__processing_response__pack(message, start.assumingMemoryBound(to: UInt8.self))
        }
    }
}

extension ProtobufCBinaryData {
    /// Points at `bytes` without a copy. protobuf-c reads what it packs, and its type has no const.
    fileprivate init(lending bytes: UnsafeRawBufferPointer) {
        unsafe self.init(
            len: bytes.count,
            data: UnsafeMutableRawPointer(mutating: bytes.baseAddress)?.assumingMemoryBound(to: UInt8.self)
        )
    }
}
