// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package main

import (
	"fmt"
	"path"
	"strings"
)

type object = map[string]any

// clusterScoped lists the kinds of our manifests that lie in no namespace.
var clusterScoped = map[string]bool{
	"Namespace": true, "ClusterRole": true, "ClusterRoleBinding": true, "APIService": true, "GatewayClass": true,
}

// expand does what `kustomize build` does, for the fields resources, components, images and namespace. Any other field
// is an error.
func expand(folder string, files map[string][]object) ([]object, error) {
	name := path.Join(folder, "kustomization.yaml")
	documents, ok := files[name]
	if !ok || len(documents) != 1 {
		return nil, fmt.Errorf("%s: must hold one document", name)
	}
	kustomization := documents[0]
	for field := range kustomization {
		switch field {
		case "apiVersion", "kind", "resources", "components", "images", "namespace":
		default:
			return nil, fmt.Errorf("%s: field %q is not among resources, components, images, namespace", name, field)
		}
	}
	var objects []object
	for _, list := range []string{"resources", "components"} {
		entries, _ := kustomization[list].([]any)
		for _, entry := range entries {
			at := path.Join(folder, fmt.Sprint(entry))
			if strings.HasSuffix(at, ".yaml") {
				found, ok := files[at]
				if !ok {
					return nil, fmt.Errorf("%s: no file %s", name, at)
				}
				for _, document := range found {
					objects = append(objects, clone(document).(object))
				}
				continue
			}
			wanted := map[string]string{"resources": "Kustomization", "components": "Component"}[list]
			if inner := files[path.Join(at, "kustomization.yaml")]; len(inner) == 1 && inner[0]["kind"] != wanted {
				return nil, fmt.Errorf("%s: %s is no %s", name, at, wanted)
			}
			found, err := expand(at, files)
			if err != nil {
				return nil, err
			}
			objects = append(objects, found...)
		}
	}
	if namespace, ok := kustomization["namespace"].(string); ok {
		setSubjects(objects, namespace)
		for _, object := range objects {
			setNamespace(object, namespace)
		}
	}
	seen := map[string]bool{}
	for _, object := range objects {
		images, _ := kustomization["images"].([]any)
		for _, image := range images {
			setImage(object, image.(map[string]any))
		}
		id := fmt.Sprint(object["apiVersion"], object["kind"], at(object, "metadata", "namespace"), at(object, "metadata", "name"))
		if seen[id] {
			return nil, fmt.Errorf("%s: %s comes twice", name, id)
		}
		seen[id] = true
	}
	return objects, nil
}

// setNamespace changes what kustomize's namespace field changes.
func setNamespace(object object, namespace string) {
	kind := fmt.Sprint(object["kind"])
	if metadata, ok := object["metadata"].(map[string]any); ok {
		if kind == "Namespace" {
			metadata["name"] = namespace
		} else if !clusterScoped[kind] {
			metadata["namespace"] = namespace
		}
	}
	if kind == "APIService" {
		if service, ok := at(object, "spec", "service").(map[string]any); ok {
			service["namespace"] = namespace
		}
	}
}

// setSubjects lets bindings follow the service accounts that are renamed with them, and leaves all other subjects.
func setSubjects(objects []object, namespace string) {
	accounts := map[string]bool{}
	for _, object := range objects {
		if object["kind"] == "ServiceAccount" {
			accounts[fmt.Sprint(at(object, "metadata", "namespace"), "/", at(object, "metadata", "name"))] = true
		}
	}
	for _, object := range objects {
		subjects, _ := object["subjects"].([]any)
		for _, subject := range subjects {
			fields, _ := subject.(map[string]any)
			if accounts[fmt.Sprint(fields["namespace"], "/", fields["name"])] {
				fields["namespace"] = namespace
			}
		}
	}
}

// setImage changes the containers whose image has the given name.
func setImage(node any, image map[string]any) {
	switch value := node.(type) {
	case map[string]any:
		for _, list := range []string{"containers", "initContainers"} {
			containers, _ := value[list].([]any)
			for _, container := range containers {
				fields, _ := container.(map[string]any)
				current, _ := fields["image"].(string)
				name, tag, _ := strings.Cut(current, ":")
				if name != image["name"] {
					continue
				}
				if newName, ok := image["newName"].(string); ok {
					name = newName
				}
				if newTag, ok := image["newTag"].(string); ok {
					tag = newTag
				}
				fields["image"] = name + ":" + tag
			}
		}
		for _, inner := range value {
			setImage(inner, image)
		}
	case []any:
		for _, inner := range value {
			setImage(inner, image)
		}
	}
}

func at(node any, keys ...string) any {
	for _, key := range keys {
		fields, ok := node.(map[string]any)
		if !ok {
			return nil
		}
		node = fields[key]
	}
	return node
}

func clone(node any) any {
	switch value := node.(type) {
	case map[string]any:
		copied := make(map[string]any, len(value))
		for key, inner := range value {
			copied[key] = clone(inner)
		}
		return copied
	case []any:
		copied := make([]any, len(value))
		for index, inner := range value {
			copied[index] = clone(inner)
		}
		return copied
	}
	return node
}
