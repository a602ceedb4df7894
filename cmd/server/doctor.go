package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/notifyql/notifyql/internal/doctor"
)

// doctor looks at the database with the server's settings, and says what is wrong and what to paste.
func (p *program) doctor(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("doctor", "")
	if err := p.register(fs, &s, "database-url", "pool-url"); err != nil {
		return err
	}
	asJSON := fs.Bool("json", false, "print the findings as JSON")
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	if s.databaseURL == "" {
		return errNoDatabase
	}
	report := doctor.Run(ctx, doctor.Options{DatabaseURL: s.databaseURL, PoolURL: s.poolURL})
	var err error
	if *asJSON {
		e := json.NewEncoder(p.stdout)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		err = e.Encode(report)
	} else {
		err = report.Write(p.stdout)
	}
	if err == nil && report.Errors > 0 {
		err = fmt.Errorf("the doctor has found errors: %d", report.Errors)
	}
	return err
}
