// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include <curl/curl.h>

// curl_easy_setopt and its like are variadic, which Swift does not import: one function per type of argument.

static inline CURLcode epp_curl_set_long(CURL *handle, CURLoption option, long value) {
    return curl_easy_setopt(handle, option, value);
}

static inline CURLcode epp_curl_set_string(CURL *handle, CURLoption option, const char *value) {
    return curl_easy_setopt(handle, option, value);
}

static inline CURLcode epp_curl_set_pointer(CURL *handle, CURLoption option, void *value) {
    return curl_easy_setopt(handle, option, value);
}

// libcurl keeps a copy of the bytes.
static inline CURLcode epp_curl_set_blob(CURL *handle, CURLoption option, const void *bytes, size_t count) {
    struct curl_blob blob = {.data = (void *)bytes, .len = count, .flags = CURL_BLOB_COPY};
    return curl_easy_setopt(handle, option, &blob);
}

static inline CURLcode epp_curl_clear(CURL *handle, CURLoption option) {
    return curl_easy_setopt(handle, option, NULL);
}

// What every handle of ours wants: signals would interrupt other threads, and proxies of the environment are not meant for
// pods and API servers.
static inline CURLcode epp_curl_set_common(CURL *handle, const char *protocols) {
    CURLcode code = epp_curl_set_long(handle, CURLOPT_NOSIGNAL, 1);
    if (code == CURLE_OK) code = epp_curl_set_string(handle, CURLOPT_PROXY, "");
    if (code == CURLE_OK) code = epp_curl_set_string(handle, CURLOPT_USERAGENT, "epp-pd");
    if (code == CURLE_OK) code = epp_curl_set_string(handle, CURLOPT_PROTOCOLS_STR, protocols);
    if (code == CURLE_OK) code = epp_curl_set_long(handle, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
    return code;
}

typedef size_t (*epp_curl_write)(char *bytes, size_t size, size_t count, void *context);

static inline CURLcode epp_curl_set_write(CURL *handle, epp_curl_write function, void *context) {
    CURLcode code = curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, function);
    return code == CURLE_OK ? curl_easy_setopt(handle, CURLOPT_WRITEDATA, context) : code;
}

typedef int (*epp_curl_progress)(void *context, curl_off_t, curl_off_t, curl_off_t, curl_off_t);

// Called at least about once a second while a transfer runs; anything but 0 gives it up.
static inline CURLcode epp_curl_set_progress(CURL *handle, epp_curl_progress function, void *context) {
    CURLcode code = curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, function);
    if (code == CURLE_OK) code = curl_easy_setopt(handle, CURLOPT_XFERINFODATA, context);
    return code == CURLE_OK ? epp_curl_set_long(handle, CURLOPT_NOPROGRESS, 0) : code;
}

static inline CURLcode epp_curl_set_header(CURL *handle, epp_curl_write function, void *context) {
    CURLcode code = curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, function);
    return code == CURLE_OK ? curl_easy_setopt(handle, CURLOPT_HEADERDATA, context) : code;
}

static inline CURLcode epp_curl_get_long(CURL *handle, CURLINFO info, long *value) {
    return curl_easy_getinfo(handle, info, value);
}

static inline CURLcode epp_curl_get_pointer(CURL *handle, CURLINFO info, void **value) {
    return curl_easy_getinfo(handle, info, value);
}

static inline CURLMcode epp_curl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}

// The next finished transfer: its handle and result, NULL where there is none.
static inline CURL *epp_curl_multi_finished(CURLM *multi, CURLcode *result) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) {
            *result = message->data.result;
            return message->easy_handle;
        }
    }
    return NULL;
}
