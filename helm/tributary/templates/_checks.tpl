{{/* What the schema cannot tell: values that need or exclude each other. All of it is told at once. */}}
{{- define "tributary.checks" -}}
{{- $problems := list -}}
{{- $values := .Values -}}
{{- if not $values.image.repository -}}
{{- $problems = append $problems "image.repository is required: an image with the programs tributary-aggregator, tributary-proxy and tributary" -}}
{{- end -}}
{{- if not (or $values.agents.enabled $values.proxies.enabled $values.globals.enabled) -}}
{{- $problems = append $problems "none of agents, proxies and globals is enabled" -}}
{{- end -}}
{{- if and $values.agents.enabled (not $values.proxies.enabled) (has $values.discovery.proxies (list "dns" "kubernetes" "service")) -}}
{{- $problems = append $problems (printf "discovery.proxies is %s, and proxies.enabled is false: use static with proxyAddresses, consul or none" $values.discovery.proxies) -}}
{{- end -}}
{{- if and $values.agents.enabled (eq $values.discovery.proxies "static") (not $values.discovery.proxyAddresses) -}}
{{- $problems = append $problems "discovery.proxyAddresses is empty, and discovery.proxies is static" -}}
{{- end -}}
{{- if and $values.proxies.enabled (not $values.globals.enabled) -}}
{{- if has $values.discovery.globals (list "dns" "kubernetes") -}}
{{- $problems = append $problems (printf "discovery.globals is %s, and globals.enabled is false: use static with globalAddresses, or consul" $values.discovery.globals) -}}
{{- else if and (eq $values.discovery.globals "static") (not $values.discovery.globalAddresses) -}}
{{- $problems = append $problems "discovery.globalAddresses is empty, discovery.globals is static, and globals.enabled is false" -}}
{{- end -}}
{{- end -}}
{{- $owned := dict
  "shutdown_timeout" "shutdownTimeoutSeconds, which the grace period follows"
  "http_address" "bindAddress and, for agents, httpPort, which probes follow"
  "grpc_address" "bindAddress, which services follow"
  "interval" "interval, which all tiers share" -}}
{{- range $tier := list "agents" "proxies" "globals" -}}
{{- range $key, $instead := $owned -}}
{{- if hasKey (get $values $tier).config $key -}}
{{- $problems = append $problems (printf "%s.config.%s is not taken: set %s" $tier $key $instead) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $values.tls.enabled -}}
{{- if $values.tls.certManager.enabled -}}
{{- if not $values.tls.certManager.issuerRef.name -}}
{{- $problems = append $problems "tls.certManager.issuerRef.name is required" -}}
{{- end -}}
{{- else -}}
{{- range $component := list "agent" "proxy" "global" -}}
{{- $enabled := (get $values (include "tributary.tier" (dict "component" $component))).enabled -}}
{{- if and $enabled (not (or $values.tls.secretName (get $values.tls.secretNames $component))) -}}
{{- $problems = append $problems (printf "tls.enabled needs tls.secretName, tls.secretNames.%s or tls.certManager" $component) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.agents.hostNetwork $values.agents.hostPort.enabled (ne (int $values.agents.hostPort.port) (int $values.agents.port)) -}}
{{- $problems = append $problems "agents.hostPort.port must be agents.port with agents.hostNetwork" -}}
{{- end -}}
{{- if not (or $values.agents.service.enabled $values.agents.hostPort.enabled $values.agents.hostNetwork $values.agents.socket.enabled $values.agents.sources (not $values.agents.enabled)) -}}
{{- $problems = append $problems "nobody can reach an agent: enable agents.service, agents.hostPort, agents.hostNetwork or agents.socket, or give agents.sources" -}}
{{- end -}}
{{- if and $values.monitoring.monitors.enabled (eq $values.monitoring.monitors.kind "ServiceMonitor") $values.agents.enabled (not $values.agents.service.enabled) -}}
{{- $problems = append $problems "a ServiceMonitor finds agents by agents.service, which is not enabled: use a PodMonitor" -}}
{{- end -}}
{{- $autoscaling := $values.proxies.autoscaling -}}
{{- if $autoscaling.enabled -}}
{{- if gt (int $autoscaling.minReplicas) (int $autoscaling.maxReplicas) -}}
{{- $problems = append $problems "proxies.autoscaling.minReplicas is greater than maxReplicas" -}}
{{- end -}}
{{- if not (or $autoscaling.cpuUtilization $autoscaling.podsMetric.name) -}}
{{- $problems = append $problems "proxies.autoscaling has neither cpuUtilization nor podsMetric" -}}
{{- end -}}
{{- if and $autoscaling.podsMetric.name (not $autoscaling.podsMetric.averageValue) -}}
{{- $problems = append $problems "proxies.autoscaling.podsMetric.averageValue is empty" -}}
{{- end -}}
{{- if and $autoscaling.cpuUtilization (not (dig "requests" "cpu" "" $values.proxies.resources)) -}}
{{- $problems = append $problems "proxies.autoscaling.cpuUtilization is a share of proxies.resources.requests.cpu, which is not set" -}}
{{- end -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n  - %s" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end -}}
