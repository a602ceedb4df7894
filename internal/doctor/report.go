package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	OK      Severity = "ok"
	Warning Severity = "warning" // it works, and something about it does not last, or is slow, or is not safe
	Error   Severity = "error"   // something that is promised does not hold
)

// Step is something to paste.
type Step struct {
	// How is where: "sql" in a session of a superuser, or of who owns what is named; "shell"; "setting", an environment variable of
	// the server's; "restart", which is of Postgres and has no text; "do" is advice for a person.
	How  string `json:"how"`
	Text string `json:"text,omitempty"`
}

// Finding is what a check has found.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Subject  string   `json:"subject,omitempty"` // the table, role or session
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"`
	Fix      []Step   `json:"fix,omitempty"`
}

// Report is what the doctor says.
type Report struct {
	Findings []Finding `json:"findings"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
}

// Add adds what others have found.
func (r *Report) Add(f Finding) {
	switch f.Severity {
	case Error:
		r.Errors++
	case Warning:
		r.Warnings++
	}
	r.Findings = append(r.Findings, f)
}

// Has reports whether something of that id was found, and is not well.
func (r *Report) Has(id string) bool { return r.find(id) != nil }

// Find returns the findings with that id that are not well.
func (r *Report) Find(id string) (found []Finding) {
	for _, f := range r.Findings {
		if f.ID == id && f.Severity != OK {
			found = append(found, f)
		}
	}
	return found
}

func (r *Report) find(id string) *Finding {
	for i, f := range r.Findings {
		if f.ID == id && f.Severity != OK {
			return &r.Findings[i]
		}
	}
	return nil
}

// Write prints the report for people.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		what := f.What
		if f.Subject != "" {
			what = f.Subject + ": " + what
		}
		fmt.Fprintf(&b, "%-8s %-18s %s\n", f.Severity, f.ID, what)
		if f.Why != "" {
			fmt.Fprintf(&b, "%27s %s\n", "why:", f.Why)
		}
		for i, s := range f.Fix {
			label := ""
			if i == 0 {
				label = "fix:"
			}
			for j, line := range strings.Split(s.line(), "\n") {
				if j > 0 {
					label = ""
				}
				fmt.Fprintf(&b, "%27s %s\n", label, line)
			}
		}
	}
	fmt.Fprintf(&b, "\n%s, %s\n", plural(r.Errors, "error"), plural(r.Warnings, "warning"))
	_, err := io.WriteString(w, b.String())
	return err
}

// line is the step as a person pastes it.
func (s Step) line() string {
	switch s.How {
	case "sql":
		return s.Text + ";"
	case "shell":
		return "$ " + s.Text
	case "setting":
		return "set " + s.Text
	case "restart":
		return "restart Postgres"
	}
	return s.Text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sql, shell and setting make steps.
func sql(format string, args ...any) Step     { return Step{"sql", fmt.Sprintf(format, args...)} }
func shell(format string, args ...any) Step   { return Step{"shell", fmt.Sprintf(format, args...)} }
func setting(format string, args ...any) Step { return Step{"setting", fmt.Sprintf(format, args...)} }
func advice(text string) Step                 { return Step{"do", text} }
