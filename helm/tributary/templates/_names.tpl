{{/* Names and labels. Those with a dict take `root` and, where they speak of one tier, `component`: agent, proxy or global. */}}

{{- define "tributary.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is put behind it: -proxy-headless, and a StatefulSet's own label. */}}
{{- define "tributary.fullname" -}}
{{- $name := include "tributary.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tributary.tierName" -}}
{{- printf "%s-%s" (include "tributary.fullname" .root) .component -}}
{{- end -}}

{{/* A service's name as certificates and addresses have it: without a cluster's domain, which may differ between clusters. */}}
{{- define "tributary.host" -}}
{{- printf "%s-%s.%s.svc" (include "tributary.fullname" .root) .component .root.Release.Namespace -}}
{{- end -}}

{{/* The same, absolute, so that no search domain is tried in between. */}}
{{- define "tributary.fqdn" -}}
{{- printf "%s.%s." (include "tributary.host" .) .root.Values.clusterDomain -}}
{{- end -}}

{{/* What never changes in the life of an object. */}}
{{- define "tributary.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tributary.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tributary.labels" -}}
{{ include "tributary.selectorLabels" . }}
app.kubernetes.io/part-of: tributary
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of pods: nothing that changes with the chart's version, which would replace every pod. */}}
{{- define "tributary.podLabels" -}}
{{- merge (include "tributary.selectorLabels" . | fromYaml) .values.podLabels .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* metadata of an object: `name`, and perhaps `labels` and `annotations` of its own. */}}
{{- define "tributary.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels: {{- merge (include "tributary.labels" . | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Of a tier; without `values` that of the release. */}}
{{- define "tributary.image" -}}
{{- $image := .root.Values.image -}}
{{- $own := (.values | default dict).imageTag -}}
{{- if $own -}}
{{ $image.repository }}:{{ $own }}
{{- else if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "tributary.serviceAccount" -}}
{{- $account := .values.serviceAccount -}}
{{- if $account.create -}}
{{ $account.name | default (include "tributary.tierName" .) }}
{{- else -}}
{{ $account.name | default "default" }}
{{- end -}}
{{- end -}}

{{/* The values of a component's tier. */}}
{{- define "tributary.tier" -}}
{{- get (dict "agent" "agents" "proxy" "proxies" "global" "globals") .component -}}
{{- end -}}
