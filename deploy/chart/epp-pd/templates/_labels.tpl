{{- /* The labels of every object; its lines are indented as metadata.labels is. */ -}}
{{- define "labels" }}    app.kubernetes.io/name: epp-pd
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/version: {{ printf "%q" .Chart.AppVersion }}
    app.kubernetes.io/component: endpoint-picker
    app.kubernetes.io/part-of: inference-gateway
{{- end }}
