package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
)

// ratio is how something of ours compares with its baseline in one run.
type ratio struct {
	Ratio  float64 `json:"ratio"`
	Better string  `json:"better"` // higher or lower
}

// ratios are what benchmarks found, by what they are of.
type ratios map[string]ratio

type ratiosKey struct{}

// higher and lower note a ratio of which more, or less, is better, for who has put ratios into the context.
func higher(ctx context.Context, what string, value float64) { note(ctx, what, ratio{value, "higher"}) }

func lower(ctx context.Context, what string, value float64) { note(ctx, what, ratio{value, "lower"}) }

func note(ctx context.Context, what string, r ratio) {
	if found, ok := ctx.Value(ratiosKey{}).(ratios); ok {
		r.Ratio = float64(int(r.Ratio*1000+0.5)) / 1000
		found[what] = r
	}
}

// worse is by which factor r is worse than was; below 1 it is better.
func (r ratio) worse(was ratio) float64 {
	if was.Better == "higher" {
		return was.Ratio / r.Ratio
	}
	return r.Ratio / was.Ratio
}

// regressed lists what is worse than before by more than the tolerance, or was not measured, or is not among what was before.
func (found ratios) regressed(before ratios, tolerance float64) (what []string) {
	for name, was := range before {
		if is, ok := found[name]; !ok || !(is.worse(was) <= tolerance) {
			what = append(what, name)
		}
	}
	for name := range found {
		if _, ok := before[name]; !ok {
			what = append(what, name)
		}
	}
	slices.Sort(what)
	return what
}

// take keeps of each ratio the better one.
func (found ratios) take(more ratios) {
	for name, r := range more {
		if had, ok := found[name]; !ok || r.worse(had) < 1 {
			found[name] = r
		}
	}
}

// ratiosOf runs benchmarks for their ratios.
func ratiosOf(ctx context.Context, all []benchmark, seconds int) (ratios, error) {
	found := ratios{}
	for _, b := range all {
		fmt.Printf("\n## %s\n", b.name)
		if err := b.run(context.WithValue(ctx, ratiosKey{}, found), seconds); err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return found, nil
}

// checked are the benchmarks that are compared, each short: those whose ratios say most, and carry over best.
func checked(subscribers, sockets int) []benchmark {
	return []benchmark{
		{"latency", func(ctx context.Context, s int) error { return latency(ctx, s, subscribers) }},
		{"fanout", func(ctx context.Context, s int) error { return fanout(ctx, s, sockets) }},
		{"writers", func(ctx context.Context, s int) error {
			return writersOf(ctx, s, []string{"on"}, []string{"update"}, 32)
		}},
		{"catchup", catchup},
		{"storm", storm},
	}
}

// check measures and compares with the ratios in a file. A benchmark that is worse is tried once more: something else may have had the
// machine. The error names what is worse both times.
func check(ctx context.Context, all []benchmark, seconds int, file string, tolerance float64) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before := ratios{}
	if err := json.Unmarshal(text, &before); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	maps.DeleteFunc(before, func(name string, _ ratio) bool {
		return !slices.ContainsFunc(all, func(b benchmark) bool { return b.name == of(name) })
	})
	found, err := ratiosOf(ctx, all, seconds)
	if err != nil {
		return err
	}
	if worse := found.regressed(before, tolerance); len(worse) > 0 {
		fmt.Printf("\nonce more, for %q\n", worse)
		again := slices.DeleteFunc(slices.Clone(all), func(b benchmark) bool {
			return !slices.ContainsFunc(worse, func(name string) bool { return of(name) == b.name })
		})
		more, err := ratiosOf(ctx, again, seconds)
		if err != nil {
			return err
		}
		found.take(more)
	}
	fmt.Printf("\nratio, committed and now; worse by more than %.2f is a regression\n", tolerance)
	for _, name := range slices.Sorted(maps.Keys(before)) {
		fmt.Printf("  %-64s %8.3f %8.3f  %s is better\n", name, before[name].Ratio, found[name].Ratio, before[name].Better)
	}
	if worse := found.regressed(before, tolerance); len(worse) > 0 {
		return fmt.Errorf("regressed: %q; if that is meant, make bench-record", worse)
	}
	return nil
}

// of is the benchmark of a ratio: its name begins with it.
func of(name string) string {
	for i, c := range name {
		if c == ':' {
			return name[:i]
		}
	}
	return name
}

// recorded is how often is measured for a record, which has the medians.
const recorded = 3

// record measures and writes the ratios to a file, to be committed.
func record(ctx context.Context, all []benchmark, seconds int, file string) error {
	each, found := map[string][]float64{}, ratios{}
	for range recorded {
		once, err := ratiosOf(ctx, all, seconds)
		if err != nil {
			return err
		}
		for name, r := range once {
			each[name] = append(each[name], r.Ratio)
			found[name] = ratio{median(each[name]), r.Better}
		}
	}
	text, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
