package pg

import (
	"testing"

	"github.com/notifyql/notifyql/internal/change"
	"github.com/notifyql/notifyql/internal/feed"
	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

func BenchmarkSweepEmpty(b *testing.B) {
	db := pgtest.New(b)
	s := testSource(b, db)
	logRows(b, db, "a", 10000, 100)
	f := change.NewFrontier(snapshot(b, db))
	for b.Loop() {
		if err := s.drive.sweeper.sweep(b.Context(), feed.Sweep{From: f.Clone()}, func(feed.Input) {}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSweepHundred(b *testing.B) {
	db := pgtest.New(b)
	s := testSource(b, db)
	f := change.NewFrontier(snapshot(b, db))
	logRows(b, db, "a", 100, 300)
	for b.Loop() {
		if err := s.drive.sweeper.sweep(b.Context(), feed.Sweep{From: f.Clone()}, func(feed.Input) {}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	db := pgtest.New(b)
	s := testSource(b, db)
	for b.Loop() {
		if _, err := s.drive.heartbeat(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCatalogVersion(b *testing.B) {
	db := pgtest.New(b)
	s := testSource(b, db)
	_, v, err := s.Catalog(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := s.catalog.changed(b.Context(), v); err != nil {
			b.Fatal(err)
		}
	}
}
