// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

// A C interface to the parts of simdjson that are used. Nothing here throws. Values and cursors are small, are copied
// freely, and live until the parser that made them parses again or is destroyed.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct epp_json_parser epp_json_parser;

typedef struct {
    const void *document;
    size_t index;
} epp_json_value;

typedef struct {
    epp_json_value next;
    epp_json_value end;
} epp_json_cursor;

typedef enum {
    EPP_JSON_OBJECT,
    EPP_JSON_ARRAY,
    EPP_JSON_STRING,
    EPP_JSON_NUMBER,
    EPP_JSON_BOOL,
    EPP_JSON_NULL
} epp_json_kind_t;

typedef enum { EPP_JSON_OK, EPP_JSON_INVALID, EPP_JSON_TOO_DEEP, EPP_JSON_TOO_LARGE, EPP_JSON_NO_MEMORY } epp_json_status;

/// Bytes behind a document that must be readable.
size_t epp_json_padding(void);

/// NULL when there is no memory.
epp_json_parser *epp_json_parser_create(size_t max_bytes);
void epp_json_parser_destroy(epp_json_parser *parser);

/// Parses and validates the whole document. `bytes` needs epp_json_padding() readable bytes behind it. They are changed
/// and put back before it returns, and must then stay as they are for as long as values are looked at.
epp_json_status epp_json_parse(epp_json_parser *parser, void *bytes, size_t count, epp_json_value *root);

epp_json_kind_t epp_json_kind(epp_json_value value);

/// The unescaped string. False, and nothing written, where the value is of another kind.
bool epp_json_string(epp_json_value value, const char **start, size_t *count);
/// False where the value is no integer between 0 and 2^63 - 1.
bool epp_json_natural(epp_json_value value, int64_t *number);
bool epp_json_bool(epp_json_value value, bool *flag);

/// False where the value is no array.
bool epp_json_array(epp_json_value value, epp_json_cursor *cursor);
/// False at the end.
bool epp_json_next_element(epp_json_cursor *cursor, epp_json_value *element);

/// False where the value is no object.
bool epp_json_object(epp_json_value value, epp_json_cursor *cursor);
/// False at the end. Keys are unescaped; duplicates come in the document's order.
bool epp_json_next_member(epp_json_cursor *cursor, const char **key, size_t *key_count, epp_json_value *value);

/// Writes the value without white space and calls `take` with the text. False when there is no memory.
bool epp_json_minify(epp_json_value value, void *context, void (*take)(void *context, const char *start, size_t count));

/// Where the values of the members named `key` of the document's outermost object lie, each with its quotes if it has any.
/// Returns how many there are; writes at most `capacity` of them. Invalidates all values of this parser.
size_t epp_json_locate(epp_json_parser *parser, const void *bytes, size_t count, const char *key, size_t key_count,
                       size_t *offsets, size_t *lengths, size_t capacity);

#ifdef __cplusplus
}
#endif
