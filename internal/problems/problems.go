// Package problems keeps count of what went wrong, for an operator to look at: every warning and error that the program
// logs, by its message, with the newest text and when it was. Secrets are taken out before anything is kept or passed
// on.
package problems

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxKinds bounds the kinds kept; what comes beyond is counted as "other".
const maxKinds = 100

// Kind is one kind of problem.
type Kind struct {
	Kind      string    `json:"kind"`
	Level     string    `json:"level"`
	Count     int64     `json:"count"`
	PerMinute float64   `json:"perMinute"` // over the last five minutes
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Detail    string    `json:"detail,omitempty"` // of the last one

	minutes [5]int64 // counts, by minute modulo 5
	stamp   [5]int64 // the minute each of them is of
}

// Recorder is the list of kinds. It is used by many goroutines.
type Recorder struct {
	now func() time.Time

	warnings, errors atomic.Int64

	mu    sync.Mutex
	kinds map[string]*Kind
}

// NewRecorder returns an empty list.
func NewRecorder() *Recorder { return &Recorder{now: time.Now, kinds: map[string]*Kind{}} }

func (r *Recorder) record(level slog.Level, kind, detail string) {
	if level >= slog.LevelError {
		r.errors.Add(1)
	} else {
		r.warnings.Add(1)
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.kinds[kind]
	if k == nil {
		if len(r.kinds) >= maxKinds {
			kind, detail = "other", kind
			k = r.kinds[kind]
		}
		if k == nil {
			k = &Kind{Kind: kind, First: now}
			r.kinds[kind] = k
		}
	}
	k.Level, k.Last, k.Detail = level.String(), now, detail
	k.Count++
	minute := now.Unix() / 60
	i := minute % 5
	if k.stamp[i] != minute {
		k.stamp[i], k.minutes[i] = minute, 0
	}
	k.minutes[i]++
}

// Counts returns how many there were, by level: warning and error.
func (r *Recorder) Counts() map[string]int64 {
	return map[string]int64{"warning": r.warnings.Load(), "error": r.errors.Load()}
}

// List returns the kinds, newest first.
func (r *Recorder) List() []Kind {
	minute := r.now().Unix() / 60
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Kind, 0, len(r.kinds))
	for _, k := range r.kinds {
		c := *k
		for i, n := range c.minutes {
			if minute-c.stamp[i] < 5 {
				c.PerMinute += float64(n) / 5
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Kind) int { return b.Last.Compare(a.Last) })
	return out
}

// Handler passes log records on to next, secrets taken out, and counts the warnings and errors among them.
func (r *Recorder) Handler(next slog.Handler) slog.Handler { return &handler{r: r, next: next} }

type handler struct {
	r    *Recorder
	next slog.Handler
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || h.next.Enabled(ctx, l)
}

func (h *handler) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, Redact(rec.Message), rec.PC)
	detail := ""
	rec.Attrs(func(a slog.Attr) bool {
		a = redactAttr(a)
		if a.Key == "error" {
			detail = a.Value.String()
		}
		clean.AddAttrs(a)
		return true
	})
	if rec.Level >= slog.LevelWarn {
		h.r.record(rec.Level, clean.Message, detail)
	}
	if !h.next.Enabled(ctx, rec.Level) {
		return nil
	}
	return h.next.Handle(ctx, clean)
}

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(as))
	for i, a := range as {
		clean[i] = redactAttr(a)
	}
	return &handler{r: h.r, next: h.next.WithAttrs(clean)}
}

func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{r: h.r, next: h.next.WithGroup(name)}
}

func redactAttr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup && secretKey.MatchString(a.Key) {
		return slog.String(a.Key, "***")
	}
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, Redact(v.String()))
	case slog.KindAny:
		// Whatever it is, it is logged as its text: what is inside could be secret.
		return slog.String(a.Key, Redact(fmt.Sprint(v.Any())))
	case slog.KindGroup:
		group := slices.Clone(v.Group())
		for i := range group {
			group[i] = redactAttr(group[i])
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	}
	return a
}

var (
	urlSecret   = regexp.MustCompile(`([a-z][a-z0-9+.-]*://[^\s:/@]*):\S*@`)
	wordSecret  = regexp.MustCompile(`(?i)(password|passwd|pwd|secret|token|authorization)("?\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|(?:(?:bearer|basic)\s+)?[^\s,;&]+)`)
	secretKey   = regexp.MustCompile(`(?i)(password|passwd|pwd|secret|token|authorization)$`)
	channelName = regexp.MustCompile(`notifyql_[0-9a-f]{32}`)
)

// Redact takes passwords, tokens and the name of the notification channel out of a text.
func Redact(s string) string {
	s = urlSecret.ReplaceAllString(s, "$1:***@")
	s = wordSecret.ReplaceAllString(s, "$1$2***")
	return channelName.ReplaceAllString(s, "notifyql_***")
}
