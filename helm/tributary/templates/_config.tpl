{{/* The programs' settings. Each definition gives YAML; `tributary.merged` lays the user's over the chart's. */}}

{{/* Maps are merged, anything else is replaced, and so empty and false values count, which Sprig's own merge leaves out. */}}
{{- define "tributary.merged" -}}
{{- $merged := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- $below := get $merged $key -}}
{{- if and (kindIs "map" $below) (kindIs "map" $value) $value -}}
{{- $_ := set $merged $key (include "tributary.merged" (dict "base" $below "over" $value) | fromYaml) -}}
{{- else -}}
{{- $_ := set $merged $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $merged -}}
{{- end -}}

{{/* What every program has. */}}
{{- define "tributary.config.common" -}}
{{- $tier := get .root.Values (include "tributary.tier" .) -}}
interval: {{ .root.Values.interval | quote }}
shutdown_timeout: {{ printf "%ds" (int $tier.shutdownTimeoutSeconds) | quote }}
log_format: {{ .root.Values.logFormat }}
{{- with .root.Values.logLevel }}
log_level: {{ quote . }}
{{- end }}
{{- end -}}

{{/* Consul, for whoever asks it or registers there. An address by the node comes by the environment. */}}
{{- define "tributary.config.consul" -}}
{{- $consul := .Values.discovery.consul -}}
{{- with $consul.address }}
consul_address: {{ quote . }}
{{- end }}
{{- with $consul.datacenter }}
consul_datacenter: {{ quote . }}
{{- end }}
{{- if $consul.tokenSecret.name }}
consul_token_file: /etc/tributary/consul-token/token
{{- end }}
{{- if $consul.caSecret.name }}
consul_tls:
  ca_file: /etc/tributary/consul-ca/ca.crt
{{- end }}
{{- end -}}

{{/* The proxies' balanced service. */}}
{{- define "tributary.proxyAddress" -}}
{{- printf "%s:%d" (include "tributary.host" (dict "root" .root "component" "proxy")) (int .root.Values.proxies.service.port) -}}
{{- end -}}

{{/* How an agent finds the proxies. */}}
{{- define "tributary.config.proxies" -}}
{{- $discovery := .root.Values.discovery -}}
{{- if eq $discovery.proxies "static" -}}
forward_address: {{ toJson $discovery.proxyAddresses }}
{{- else if eq $discovery.proxies "consul" -}}
consul_forward_service_name: {{ quote $discovery.consul.proxyService }}
{{- else if eq $discovery.proxies "service" -}}
forward_address: [{{ include "tributary.proxyAddress" . | quote }}]
{{- else if eq $discovery.proxies "kubernetes" -}}
forward_discovery:
  kind: kubernetes
  namespace: {{ .root.Release.Namespace }}
  service: {{ include "tributary.fullname" .root }}-proxy-headless
  port: grpc
{{- else if eq $discovery.proxies "dns" -}}
forward_discovery:
  kind: dns
  name: {{ printf "%s:8228" (include "tributary.fqdn" (dict "root" .root "component" "proxy-headless")) | quote }}
{{- end -}}
{{- end -}}

{{/*
Whom a leaving global hands its interval to: this release's proxies, if it has some. Where names are fixed its keys have no other owner, and it would only wait
for one until shutdown_timeout.
*/}}
{{- define "tributary.config.handoff" -}}
{{- $discovery := .root.Values.discovery -}}
{{- if and .root.Values.proxies.enabled (eq $discovery.globals "static") -}}
{{- else if eq $discovery.proxies "consul" -}}
consul_handoff_service_name: {{ quote $discovery.consul.proxyService }}
{{- else if .root.Values.proxies.enabled -}}
handoff_address: [{{ include "tributary.proxyAddress" . | quote }}]
{{- else if eq $discovery.proxies "static" -}}
handoff_address: {{ toJson $discovery.proxyAddresses }}
{{- end -}}
{{- end -}}

{{/* Where we listen: the tier's own certificate. */}}
{{- define "tributary.config.grpcTls" -}}
{{- $tls := .root.Values.tls -}}
{{- if $tls.enabled -}}
grpc_tls:
  cert_file: /etc/tributary/tls/{{ $tls.keys.cert }}
  key_file: /etc/tributary/tls/{{ $tls.keys.key }}
  {{- if $tls.mutual }}
  client_ca_file: /etc/tributary/tls/{{ $tls.keys.ca }}
  {{- $allowed := get $tls.allowedNames .component }}
  {{- if and (not $allowed) $tls.certManager.enabled }}
  {{- $clients := ternary (list "agent" "global") (list "proxy") (eq .component "proxy") }}
  {{- $root := .root }}
  {{- range $clients }}
  {{- $allowed = append $allowed (include "tributary.host" (dict "root" $root "component" .)) }}
  {{- end }}
  {{- end }}
  {{- with $allowed }}
  allowed_names: {{ toJson . }}
  {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Where we connect to: `to` is the component there. Without a name, the certificates of what runs elsewhere must be for the addresses. */}}
{{- define "tributary.config.forwardTls" -}}
{{- $tls := .root.Values.tls -}}
{{- if $tls.enabled -}}
forward_tls:
  ca_file: /etc/tributary/tls/{{ $tls.keys.ca }}
  {{- if $tls.mutual }}
  cert_file: /etc/tributary/tls/{{ $tls.keys.cert }}
  key_file: /etc/tributary/tls/{{ $tls.keys.key }}
  {{- end }}
  {{- $there := dict "root" .root "component" .to }}
  {{- $here := (get .root.Values (include "tributary.tier" $there)).enabled }}
  {{- with get $tls.serverNames .to | default (ternary (include "tributary.host" $there) "" $here) }}
  server_name: {{ quote . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Keys that each program takes over while it runs: docs/configuration.md has the same. */}}
{{- define "tributary.reloadable" -}}
aggregator:
  [forward_address, forward_protocol, forward_timeout, forward_retention, handoff_address, percentiles, aggregates, count_unique_timeseries, metric_sinks,
   metric_sink_routing, shutdown_timeout, debug, log_level]
proxy:
  [forward_address, forward_addresses, grpc_forward_address, ignore_tags, queue, ack_timeout, stall_after, failover_after, dial_timeout, forward_timeout,
   shutdown_timeout, debug, log_level]
{{- end -}}

{{/* What replaces the pods when it changes. */}}
{{- define "tributary.checksum" -}}
{{- $config := .config -}}
{{- if eq .root.Values.configReload "live" -}}
{{- $keys := get (include "tributary.reloadable" . | fromYaml) (ternary "proxy" "aggregator" (eq .component "proxy")) -}}
{{- range $keys -}}
{{- $config = omit $config . -}}
{{- end -}}
{{- end -}}
{{- toYaml $config | sha256sum -}}
{{- end -}}
