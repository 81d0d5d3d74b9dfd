package ensemble

import (
	"context"
	"log/slog"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// expected are parts of messages that etcd logs as warnings or errors on healthy starts.
var expected = [...]string{
	// 3.7.3, an ERROR on a fresh data directory: the version is written a moment later.
	"failed to update storage version",
	// 3.7.3, a warning on a fresh data directory: there is no term before the first entry.
	"Failed to detect schema version",
	// 3.7.3, a warning on a restart within seconds of the first start: upgrades must wait,
	// starting need not.
	"Failed to detect storage schema version. Please wait till wal snapshot before upgrading cluster.",
	// 3.7.3, thousands of warnings on a start with more than 5000 entries in the raft log: etcd
	// tries without a pause, and the server refuses until it has applied its first entry. If it
	// goes on, opening ends with an error.
	"failed to publish local member to cluster through raft",
	// 3.7.3, a warning behind the member's id on a restart of a busy machine: the timer of the
	// election came before the own membership was read from the log; the next one is in time.
	"since there are still pending configuration changes to apply",
}

// zapLogger returns a zap logger that writes to log, warnings and worse only.
func zapLogger(log *slog.Logger) *zap.Logger {
	return zap.New(&bridge{log: log.With("component", "etcd")})
}

// bridge is a zapcore.Core on top of slog.
type bridge struct{ log *slog.Logger }

// Enabled implements zapcore.LevelEnabler.
func (b *bridge) Enabled(l zapcore.Level) bool {
	return l >= zapcore.WarnLevel && b.log.Enabled(context.Background(), slogLevel(l))
}

func slogLevel(l zapcore.Level) slog.Level {
	if l == zapcore.WarnLevel {
		return slog.LevelWarn
	}
	return slog.LevelError
}

// With implements zapcore.Core.
func (b *bridge) With(fields []zapcore.Field) zapcore.Core {
	return &bridge{log: slog.New(b.log.Handler().WithAttrs(attrs(fields)))}
}

// Check implements zapcore.Core.
func (b *bridge) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !b.Enabled(e.Level) {
		return ce
	}
	for _, m := range expected {
		if strings.Contains(e.Message, m) {
			return ce
		}
	}
	return ce.AddCore(e, b)
}

// Write implements zapcore.Core. It is called for entries that Check let pass, and for
// those that end the process whatever Check says.
func (b *bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	b.log.LogAttrs(context.Background(), slogLevel(e.Level), e.Message, attrs(fields)...)
	return nil
}

// Sync implements zapcore.Core.
func (b *bridge) Sync() error { return nil }

func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	out := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		f.AddTo(enc)
		if v, ok := enc.Fields[f.Key]; ok {
			out = append(out, slog.Any(f.Key, v))
		}
	}
	return out
}
