// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CExtProc

/// Writes answers to Envoy straight into a call's send buffer. Confined to one loop.
struct ResponseEncoder {
    /// Largest piece of a body in one streamed answer: some proxies cap messages at 64 KiB.
    static let chunkSize = 62_000
    /// `HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD`. The default would append to a client's header.
    private static let overwrite: Int32 = 2

    enum Direction {
        case request, response
    }

    let arena: MessageArena
    let names: HeaderNames

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

    func responseHeaders(to call: any GRPCCall) {
        arena.scope {
            let answer = unsafe response(EPP__PROCESSING_RESPONSE__RESPONSE_RESPONSE_HEADERS)
            let headers = unsafe arena.make(epp__headers_response__init)
            unsafe headers.pointee.response = arena.make(epp__common_response__init)
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
            unsafe status.pointee.code = Int32(clamping: answer.status)
            unsafe immediate.pointee.status = status
            unsafe immediate.pointee.headers = mutation(set: answer.headers.map { ($0.name, $0.value) }, remove: [])
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
        contentLength: Int?,
        _ answer: UnsafeMutablePointer<Epp__ProcessingResponse>
    ) -> UnsafeMutablePointer<Epp__CommonResponse> {
        let common = unsafe arena.make(epp__common_response__init)
        var set: [(name: String, value: String)] = []
        if let route {
            set = names.set(for: route, destinations: destinations)
            unsafe common.pointee.clear_route_cache = 1
            unsafe answer.pointee.dynamic_metadata = metadata(destinations)
        }
        let removed = names.removed(setting: set)
        if let contentLength { set.append(("content-length", String(contentLength))) }
        unsafe common.pointee.header_mutation = mutation(set: set, remove: removed)
        return unsafe common
    }

    private func mutation(
        set: [(name: String, value: String)],
        remove: [String]
    ) -> UnsafeMutablePointer<Epp__HeaderMutation> {
        let mutation = unsafe arena.make(epp__header_mutation__init)
        let options = unsafe arena.list(of: UnsafeMutablePointer<Epp__HeaderValueOption>?.self, count: set.count)
        for (index, header) in set.enumerated() {
            let value = unsafe arena.make(epp__header_value__init)
            unsafe value.pointee.key = arena.bytes(header.name)
            unsafe value.pointee.raw_value = arena.bytes(header.value)
            let option = unsafe arena.make(epp__header_value_option__init)
            unsafe option.pointee.header = value
            unsafe option.pointee.append_action = Self.overwrite
            unsafe (options + index).initialize(to: option)
        }
        unsafe mutation.pointee.n_set_headers = set.count
        unsafe mutation.pointee.set_headers = options
        let names = unsafe arena.list(of: ProtobufCBinaryData.self, count: remove.count)
        for (index, name) in remove.enumerated() { unsafe (names + index).initialize(to: arena.bytes(name)) }
        unsafe mutation.pointee.n_remove_headers = remove.count
        unsafe mutation.pointee.remove_headers = names
        return unsafe mutation
    }

    private func metadata(_ destinations: String) -> UnsafeMutablePointer<Epp__NamespacedStruct> {
        let value = unsafe arena.make(epp__value__init)
        unsafe value.pointee.kind_case = EPP__VALUE__KIND_STRING_VALUE
        unsafe value.pointee.string_value = arena.bytes(destinations)
        let field = unsafe arena.make(epp__field_entry__init)
        unsafe field.pointee.key = arena.bytes(names.destination)
        unsafe field.pointee.value = value
        let inner = unsafe arena.make(epp__struct__init)
        unsafe inner.pointee.n_fields = 1
        unsafe inner.pointee.fields = arena.list(of: UnsafeMutablePointer<Epp__FieldEntry>?.self, count: 1)
        unsafe inner.pointee.fields.initialize(to: field)
        let nested = unsafe arena.make(epp__namespace_value__init)
        unsafe nested.pointee.struct_value = inner
        let namespace = unsafe arena.make(epp__namespace_field__init)
        unsafe namespace.pointee.key = arena.bytes(names.destinationNamespace)
        unsafe namespace.pointee.value = nested
        let outer = unsafe arena.make(epp__namespaced_struct__init)
        unsafe outer.pointee.n_fields = 1
        unsafe outer.pointee.fields = arena.list(of: UnsafeMutablePointer<Epp__NamespaceField>?.self, count: 1)
        unsafe outer.pointee.fields.initialize(to: namespace)
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
