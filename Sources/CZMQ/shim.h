// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#include <zmq.h>
