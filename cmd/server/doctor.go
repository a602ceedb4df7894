package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/notifyql/notifyql"
	"github.com/notifyql/notifyql/internal/doctor"
)

// doctor looks at the database with the server's settings, and says what is wrong and what to paste.
func (p *program) doctor(ctx context.Context, args []string) error {
	var s settings
	fs := p.flags("doctor", "")
	if err := p.register(fs, &s); err != nil {
		return err
	}
	asJSON := fs.Bool("json", false, "print the findings as JSON")
	if _, err := p.parse(fs, args, 0); err != nil {
		return err
	}
	if s.databaseURL == "" && s.bus == "memory" {
		return errors.New("NOTIFYQL_BUS is memory: there is neither a database nor a broker to look at")
	}
	if s.databaseURL == "" {
		return errNoDatabase
	}
	o := doctor.Options{DatabaseURL: s.databaseURL, PoolURL: s.poolURL}
	if _, stream, err := s.carry(); err == nil && stream != nil { // an error is among the settings'
		defer stream.Close() //nolint:errcheck // what it was for is done
		o.Bus = doctor.Bus{Stream: stream, URL: s.bus, Name: s.busStream}
	}
	report := doctor.Run(ctx, o)
	p.checkSettings(ctx, &s, report)
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

// checkSettings adds what is wrong beside the database: settings that a server would not start with, or that nobody could use, and names
// that the schema could not take from the tables.
func (p *program) checkSettings(ctx context.Context, s *settings, report *doctor.Report) {
	quiet := *p
	quiet.stderr = io.Discard // what would be logged
	c, err := quiet.serverConfig(s)
	switch {
	case err != nil:
		report.Add(doctor.Finding{
			ID: "settings", Severity: doctor.Error, What: err.Error(), Why: "The server does not start.",
			Fix: []doctor.Step{{How: "do", Text: "correct the setting; `notifyql config` lists them"}},
		})
		return
	case c.Auth == nil:
		report.Add(doctor.Finding{
			ID: "auth", Severity: doctor.Warning, What: "it is not said who clients are", Why: "Every client is refused.",
			Fix: []doctor.Step{{How: "setting", Text: "NOTIFYQL_AUTH=jwt"}, {How: "do", Text: "with the keys of your tokens, or hook"}},
		})
	case s.auth.kind == "trust":
		report.Add(doctor.Finding{
			ID: "auth", Severity: doctor.Warning, What: "clients are believed whatever they say of themselves", Why: "Whoever reaches the server may read every tenant's rows.",
			Fix: []doctor.Step{{How: "setting", Text: "NOTIFYQL_AUTH=jwt"}, {How: "do", Text: "with the keys of your tokens, or hook; trust is for trying out, or behind a backend that checks"}},
		})
	}
	if slices.ContainsFunc(report.Findings, func(f doctor.Finding) bool { return f.ID == "tables" && f.Severity == doctor.OK }) {
		schema, err := notifyql.ReadSchema(ctx, notifyql.Config{DatabaseURL: s.databaseURL, PoolURL: s.poolURL, Logger: c.Logger, Features: c.Features})
		if err != nil {
			schema.Problems = append(schema.Problems, err.Error())
		}
		for _, problem := range schema.Problems {
			report.Add(doctor.Finding{
				ID: "names", Severity: doctor.Warning, What: "not in the schema as it is in the database: " + problem, Why: "Clients know it by another name, or not at all.",
				Fix: []doctor.Step{{How: "do", Text: "watch the table with a type_name or field_name of your own, or rename it"}},
			})
		}
	}
}
