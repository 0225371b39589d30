// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Placeholder so that the package builds; each room replaces it.
enum ConfigurationRoom {}
