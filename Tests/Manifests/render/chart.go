// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// chartFiles is what templates see as .Files.
type chartFiles struct{ folder string }

// Get gives a file of the chart as text, as Helm's .Files.Get does; but a file that is not there is an error.
func (files chartFiles) Get(path string) (string, error) {
	text, err := os.ReadFile(filepath.Join(files.folder, path))
	return string(text), err
}

// renderChart executes every template of the chart, in the order of their names. A value that does not exist is an error:
// Helm would print "<no value>".
func renderChart(folder string, values map[string]any, out io.Writer) error {
	paths, err := filepath.Glob(filepath.Join(folder, "templates", "*"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("%s holds no templates", folder)
	}
	all, err := template.New("chart").Option("missingkey=error").ParseFiles(paths...)
	if err != nil {
		return err
	}
	values["Files"] = chartFiles{folder}
	for _, path := range paths {
		name := filepath.Base(path)
		if strings.HasPrefix(name, "_") || !strings.HasSuffix(name, ".yaml") {
			continue
		}
		fmt.Fprintf(out, "---\n# Source: %s\n", name)
		if err := all.ExecuteTemplate(out, name, values); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	return nil
}
