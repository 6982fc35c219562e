{{/*
A tier's ConfigMap, service account and pod template. They take a dict with
  root, component, values (the tier's), program, config (a dict of settings), ports (containers' ports),
and perhaps env, volumes, mounts, initContainers (lists), spec (a dict, added to the pod's), token (whether the pod speaks to the API server).
*/}}

{{- define "tributary.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata: {{- include "tributary.metadata" (dict "root" .root "component" .component "name" (include "tributary.tierName" .)) | nindent 2 }}
data:
  config.yaml: |
    {{- toYaml .config | nindent 4 }}
{{- end -}}

{{- define "tributary.serviceAccountObject" -}}
{{- $account := .values.serviceAccount -}}
{{- if $account.create -}}
apiVersion: v1
kind: ServiceAccount
metadata: {{- include "tributary.metadata" (dict "root" .root "component" .component "name" (include "tributary.serviceAccount" .) "annotations" $account.annotations) | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{/* Role and binding to read EndpointSlices, and nothing else. */}}
{{- define "tributary.endpointReader" -}}
{{- $metadata := include "tributary.metadata" (dict "root" .root "component" .component "name" (printf "%s-discovery" (include "tributary.tierName" .))) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{- $metadata | nindent 2 }}
rules:
  - apiGroups: [discovery.k8s.io]
    resources: [endpointslices]
    verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{- $metadata | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ include "tributary.tierName" . }}-discovery
subjects:
  - kind: ServiceAccount
    name: {{ include "tributary.serviceAccount" . }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{/* A volume of a secret, as a YAML list of one. The files are the group's to read: the pod's fsGroup. */}}
{{- define "tributary.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    {{- with .items }}
    items: {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end -}}

{{- define "tributary.probe" -}}
{{- $scheme := ternary "HTTPS" "HTTP" (hasKey (.config.http_tls | default dict) "cert_file") -}}
{{- mergeOverwrite (dict "httpGet" (dict "path" .path "port" "http" "scheme" $scheme)) (deepCopy .probe) | toYaml -}}
{{- end -}}

{{- define "tributary.podTemplate" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $discovery := $root.Values.discovery -}}
{{- $tls := $root.Values.tls -}}
{{- $volumes := concat (list (dict "name" "config" "configMap" (dict "name" (include "tributary.tierName" .)))) (.volumes | default list) -}}
{{- $mounts := concat (list (dict "name" "config" "mountPath" "/etc/tributary/config" "readOnly" true)) (.mounts | default list) -}}
{{- $env := .env | default list -}}
{{- if $tls.enabled -}}
{{- $made := printf "%s-tls" (include "tributary.tierName" .) -}}
{{- $secret := ternary $made (get $tls.secretNames .component | default $tls.secretName) $tls.certManager.enabled -}}
{{- $volumes = concat $volumes (include "tributary.secretVolume" (dict "name" "tls" "secret" $secret) | fromYamlArray) -}}
{{- $mounts = append $mounts (dict "name" "tls" "mountPath" "/etc/tributary/tls" "readOnly" true) -}}
{{- end -}}
{{- if .consul -}}
{{- $consul := $discovery.consul -}}
{{- if not $consul.address -}}
{{- $env = append $env (dict "name" "HOST_IP" "valueFrom" (dict "fieldRef" (dict "fieldPath" "status.hostIP"))) -}}
{{- $env = append $env (dict "name" "TRIBUTARY_CONSUL_ADDRESS" "value" "$(HOST_IP):8500") -}}
{{- end -}}
{{- if .register -}}
{{- $env = append $env (dict "name" "POD_IP" "valueFrom" (dict "fieldRef" (dict "fieldPath" "status.podIP"))) -}}
{{- $env = append $env (dict "name" "TRIBUTARY_CONSUL_REGISTER__ADDRESS" "value" (printf "$(POD_IP):%d" (int .register))) -}}
{{- end -}}
{{- range $name, $file := dict "token" "token" "ca" "ca.crt" -}}
{{- $secret := get $consul (printf "%sSecret" $name) -}}
{{- if $secret.name -}}
{{- $items := list (dict "key" $secret.key "path" $file) -}}
{{- $volumes = concat $volumes (include "tributary.secretVolume" (dict "name" (printf "consul-%s" $name) "secret" $secret.name "items" $items) | fromYamlArray) -}}
{{- $mounts = append $mounts (dict "name" (printf "consul-%s" $name) "mountPath" (printf "/etc/tributary/consul-%s" $name) "readOnly" true) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $index, $secret := $values.secretMounts -}}
{{- $volumes = concat $volumes (include "tributary.secretVolume" (dict "name" (printf "secret-%d" $index) "secret" $secret.secretName) | fromYamlArray) -}}
{{- $mounts = append $mounts (dict "name" (printf "secret-%d" $index) "mountPath" $secret.mountPath "readOnly" true) -}}
{{- end -}}
{{- $command := list .program "-f" "/etc/tributary/config/config.yaml" -}}
{{- if eq $root.Values.configReload "live" -}}
{{- $command = append $command "--watch" -}}
{{- end -}}
metadata:
  labels: {{- include "tributary.podLabels" . | nindent 4 }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .component }}
    checksum/config: {{ include "tributary.checksum" . }}
    {{- with merge (dict) $values.podAnnotations $root.Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tributary.serviceAccount" . }}
  automountServiceAccountToken: {{ .token | default false }}
  enableServiceLinks: false
  {{- /* The program ends by itself at shutdown_timeout; the rest is for the runtime to take the pod down. */}}
  terminationGracePeriodSeconds: {{ add (int $values.shutdownTimeoutSeconds) (int ($values.preStopSleepSeconds | default 0)) 10 }}
  securityContext: {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.dnsConfig }}
  dnsConfig: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .spec }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with concat (.initContainers | default list) $values.initContainers }}
  initContainers: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "tributary.image" . }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: {{- toYaml $command | nindent 8 }}
      {{- with concat $env $values.extraEnv }}
      env: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports: {{- toYaml .ports | nindent 8 }}
      livenessProbe: {{- include "tributary.probe" (dict "config" .config "path" "/healthcheck" "probe" $values.livenessProbe) | nindent 8 }}
      readinessProbe: {{- include "tributary.probe" (dict "config" .config "path" "/ready" "probe" $values.readinessProbe) | nindent 8 }}
      {{- if $values.preStopSleepSeconds }}
      lifecycle:
        preStop:
          sleep:
            seconds: {{ $values.preStopSleepSeconds }}
      {{- end }}
      securityContext: {{- toYaml $root.Values.securityContext | nindent 8 }}
      resources: {{- toYaml $values.resources | nindent 8 }}
      volumeMounts: {{- concat $mounts $values.extraVolumeMounts | toYaml | nindent 8 }}
    {{- with $values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes: {{- concat $volumes $values.extraVolumes | toYaml | nindent 4 }}
{{- end -}}

{{/* Over nodes and zones, as far as that can be had. */}}
{{- define "tributary.spread" -}}
{{- if kindIs "invalid" .values.topologySpreadConstraints -}}
{{- $constraints := list -}}
{{- $selector := dict "matchLabels" (include "tributary.selectorLabels" . | fromYaml) -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $selector) -}}
{{- end -}}
{{- toYaml (dict "topologySpreadConstraints" $constraints) -}}
{{- else if .values.topologySpreadConstraints -}}
{{- toYaml (dict "topologySpreadConstraints" .values.topologySpreadConstraints) -}}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{- define "tributary.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{- include "tributary.metadata" (dict "root" .root "component" .component "name" (include "tributary.tierName" .)) | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  # One that is not ready does no work that an eviction could disturb.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "tributary.selectorLabels" . | nindent 6 }}
{{- end -}}
