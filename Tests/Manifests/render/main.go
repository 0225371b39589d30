// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

// Renders the chart and expands kustomizations for the tests, with the standard library alone.
//
//	render chart CHART-FOLDER  < {"Values": …, "Release": …, "Chart": …}   YAML on standard output
//	render kustomize ROOT      < {"path/of/file.yaml": [document, …], …}   a JSON list on standard output
//
// YAML is read and written by who calls: Go's standard library has none.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("usage: render chart|kustomize FOLDER")
	}
	switch arguments[0] {
	case "chart":
		var values map[string]any
		if err := json.NewDecoder(os.Stdin).Decode(&values); err != nil {
			return err
		}
		return renderChart(arguments[1], values, os.Stdout)
	case "kustomize":
		var files map[string][]map[string]any
		if err := json.NewDecoder(os.Stdin).Decode(&files); err != nil {
			return err
		}
		objects, err := expand(arguments[1], files)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(objects)
	}
	return fmt.Errorf("unknown command %q", arguments[0])
}
