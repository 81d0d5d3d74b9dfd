package config

import (
	"strings"
)

// readEnv picks the settings out of an environment (NAME=value entries). KAFKA_ names a
// Kafka key and KALDA_ one of ours: after lowering the case, ___ is '-', __ is '_' and _
// is '.'. A name that is no key is a mistake if it is nearly one; otherwise it belongs to
// something else (KAFKA_HEAP_OPTS, KAFKA_PORT_9092_TCP of a container platform, the CLI's
// KALDA_BROKERS) and is left alone.
func readEnv(env []string) ([]setting, []error) {
	var out []setting
	var errs []error
	for _, e := range env {
		name, value, ok := strings.Cut(e, "=")
		if !ok {
			continue
		}
		key, ok := envKey(name)
		if !ok {
			continue
		}
		// A container platform describes a service called kafka as KAFKA_PORT=tcp://....
		if strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") {
			continue
		}
		at := Source{Kind: FromEnv, Name: name}
		if _, _, known := lookupBroker(key); known {
			out = append(out, setting{key, value, at})
			continue
		}
		if near := brokerTable.nearest(key); near != "" && len(key) >= 8 && distance(key, near, 3) < 3 {
			errs = append(errs, &Error{Key: key, At: at, Text: "unknown key " + key, Nearest: near})
		}
	}
	return out, errs
}

// envKey translates the name of a variable to a key; false for other variables.
func envKey(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "KAFKA_")
	prefix := ""
	if !ok {
		if rest, ok = strings.CutPrefix(name, "KALDA_"); !ok {
			return "", false
		}
		prefix = "kalda."
	}
	if rest == "" {
		return "", false
	}
	r := strings.NewReplacer("___", "-", "__", "_", "_", ".")
	return prefix + strings.ToLower(r.Replace(rest)), true
}

// EnvName returns the environment variable that sets a key.
func EnvName(key string) string {
	rest, ok := strings.CutPrefix(key, "kalda.")
	prefix := "KAFKA_"
	if ok {
		prefix = "KALDA_"
	}
	return prefix + strings.ToUpper(strings.NewReplacer("-", "___", "_", "__", ".", "_").Replace(rest))
}
