package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What is worse by more than the tolerance fails and is named, after it was tried twice; what is only somewhat worse, or better, does not.
func TestCheckFindsWhatIsWorse(t *testing.T) {
	before := ratios{"a: rate": {0.8, "higher"}, "b: lag": {2, "lower"}}
	text, err := json.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ratios.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		rate, lag []float64 // of the first run, and the second
		want      []string
		runs      string
	}{
		{"as before", []float64{0.8}, []float64{2}, nil, "ab"},
		{"better", []float64{1.6}, []float64{0.5}, nil, "ab"},
		{"somewhat worse", []float64{0.6}, []float64{2.9}, nil, "ab"},
		{"a rate that is worse", []float64{0.5, 0.5}, []float64{2}, []string{"a: rate"}, "aba"},
		{"a lag that is worse", []float64{0.8}, []float64{3.1, 3.2}, []string{"b: lag"}, "abb"},
		{"both", []float64{0.1, 0.1}, []float64{9, 9}, []string{"a: rate", "b: lag"}, "abab"},
		{"worse once", []float64{0.1, 0.8}, []float64{2}, nil, "aba"},
		{"nothing works", []float64{0, 0}, []float64{2}, []string{"a: rate"}, "aba"},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs := ""
			one := func(name, what string, values []float64, note func(context.Context, string, float64)) benchmark {
				n := 0
				return benchmark{name, func(ctx context.Context, _ int) error {
					runs += name
					note(ctx, what, values[n])
					n++
					return nil
				}}
			}
			err := check(t.Context(), []benchmark{one("a", "a: rate", c.rate, higher), one("b", "b: lag", c.lag, lower)}, 1, file, 1.5)
			if (err != nil) != (c.want != nil) || runs != c.runs {
				t.Fatalf("after %s: %v", runs, err)
			}
			for _, name := range c.want {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%v does not name %s", err, name)
				}
			}
		})
	}
	if got := (ratios{"a: rate": {1, "higher"}, "c": {1, "higher"}}).regressed(before, 1.5); !slices.Equal(got, []string{"b: lag", "c"}) {
		t.Errorf("what is missing, or new, is %v", got)
	}
}

// The ratios that are committed are those of the benchmarks that are checked.
func TestRatiosAreOfWhatIsChecked(t *testing.T) {
	text, err := os.ReadFile("ratios.json")
	if err != nil {
		t.Fatal(err)
	}
	var committed ratios
	if err := json.Unmarshal(text, &committed); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, b := range checked(1, 1) {
		known[b.name] = false
	}
	for name, r := range committed {
		if _, ok := known[of(name)]; !ok || r.Ratio <= 0 || r.Better != "higher" && r.Better != "lower" {
			t.Errorf("%s: %+v", name, r)
		}
		known[of(name)] = true
	}
	for name, has := range known {
		if !has {
			t.Errorf("%s has no ratio", name)
		}
	}
}
