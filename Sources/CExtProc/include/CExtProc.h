// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

#pragma once

#include "ext_proc.pb-c.h"
#include <protobuf-c/protobuf-c.h>
