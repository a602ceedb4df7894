package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/notifyql/notifyql/internal/pg"
)

// verify compares what the log makes of tables with what they are.
func (p *program) verify(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("verify", "[TABLE …]")
	if err := p.databaseFlags(fs, &s); err != nil {
		return err
	}
	span := fs.Duration("for", 10*time.Second, "how long to let others write in between")
	asJSON := fs.Bool("json", false, "print what was found as JSON")
	keys := fs.Int("keys", 20, "how many rows of a table to name at most")
	tables, err := p.parse(fs, args, anyNumber)
	if err != nil {
		return err
	}
	if s.databaseURL == "" {
		return errNoDatabase
	}
	reports, err := pg.Verify(ctx, s.databaseURL, pg.Verification{Tables: tables, For: *span, Keys: *keys})
	if err != nil {
		return err
	}
	wrong := 0
	for _, r := range reports {
		if !r.OK() {
			wrong++
		}
	}
	if *asJSON {
		e := json.NewEncoder(p.stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(reports)
	} else {
		for _, r := range reports {
			p.verified(r)
		}
	}
	switch {
	case err != nil:
		return err
	case len(reports) == 0:
		return fmt.Errorf("no table is watched: there is nothing to verify")
	case wrong > 0:
		return fmt.Errorf("of %d tables %d are not what the log makes of them", len(reports), wrong)
	}
	return nil
}

func (p *program) verified(r pg.Verified) {
	if r.OK() {
		fmt.Fprintf(p.stdout, "ok         %s: %d rows, %d changes meanwhile\n", r.Table, r.Rows, r.Changes)
		return
	}
	if r.Problem != "" {
		fmt.Fprintf(p.stdout, "unknown    %s: %s\n", r.Table, r.Problem)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(p.stdout, "%-10s %s %s\n", d.Kind, r.Table, d.Key)
	}
	if r.More {
		fmt.Fprintf(p.stdout, "…          %s: there are more\n", r.Table)
	}
}
