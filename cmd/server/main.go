// Command server is notifyql's binary: the subscription server, a demo, and the commands that set a database up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// program is what a command runs with: the world outside, which a test can be.
type program struct {
	stdout, stderr io.Writer
	getenv         func(string) string
}

type command struct {
	name, args, help string
	run              func(p *program, ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "", "run the server", (*program).serve},
		{"demo", "", "run everything at once: a private Postgres, a shop that writes orders, the server", (*program).demo},
		{"migrate", "up|down|version|sql", "make, remove or print what notifyql has in the database", (*program).migrate},
		{"watch", "TABLE", "watch a table: its changes become events", (*program).watch},
		{"unwatch", "TABLE", "stop watching a table", (*program).unwatch},
		{"tables", "", "list the watched tables", (*program).tables},
		{"schema", "", "print the GraphQL schema", (*program).schema},
		{"tail", "'subscription {…}'", "print the results of a subscription as they come", (*program).tail},
		{"doctor", "", "look at the database as the server would, and say what is wrong and how to mend it; exit 1 if there are errors", (*program).doctor},
		{"verify", "[TABLE …]", "prove that the log makes of the watched tables what they are, while others write; exit 1 if not", (*program).verify},
		{"health", "", "ask a running server whether it is well; exit 1 if not", (*program).health},
		{"config", "", "print the table of settings", (*program).config},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := &program{stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	code := p.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// errUsage is a command line that makes no sense; what is wrong with it has been said.
var errUsage = errors.New("usage")

func (p *program) main(ctx context.Context, args []string) int {
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "-help", "--help"}, args[0]) {
		p.usage(p.stdout)
		return 0
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		switch err := c.run(p, ctx, args[1:]); {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, errUsage):
			return 2
		default:
			line := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "notifyql: ")), " ")
			fmt.Fprintf(p.stderr, "notifyql: %s\n", line)
			return 1
		}
	}
	fmt.Fprintf(p.stderr, "notifyql: there is no command %q; `notifyql help` lists them\n", args[0])
	return 2
}

func (p *program) usage(w io.Writer) {
	fmt.Fprint(w, "notifyql turns Postgres writes into GraphQL subscription events.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  notifyql %-28s %s\n", c.name+" "+c.args, c.help)
	}
	fmt.Fprint(w, "\n`notifyql COMMAND -h` lists a command's flags. Each setting is a flag or an environment variable.\n")
}

// flags returns a flag set that speaks as we do.
func (p *program) flags(name, args string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // parse says what is wrong
	fs.Usage = func() {
		fs.SetOutput(p.stdout)
		fmt.Fprintf(p.stdout, "usage: notifyql %s\n", strings.TrimSpace(name+" [flags] "+args))
		fs.PrintDefaults()
	}
	return fs
}

// anyNumber of arguments may be given.
const anyNumber = -1

// parse reads flags and exactly n other arguments, in any order.
func (p *program) parse(fs *flag.FlagSet, args []string, n int) ([]string, error) {
	help := fs.Usage
	fs.Usage = func() {} // Parse would print it for a mistake too
	var rest []string
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				help()
				return nil, err
			}
			return nil, p.misused(fs, err.Error())
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	if len(rest) != n && n != anyNumber {
		return nil, p.misused(fs, arguments(rest, n))
	}
	return rest, nil
}

// arguments says that there are n too few or too many.
func arguments(got []string, n int) string {
	switch {
	case len(got) > n:
		return fmt.Sprintf("%q is more than it takes", got[n])
	case n == 1:
		return "it takes an argument"
	}
	return fmt.Sprintf("it takes %d arguments", n)
}

func (p *program) misused(fs *flag.FlagSet, why string) error {
	fmt.Fprintf(p.stderr, "notifyql %s: %s; `notifyql %s -h` says what it takes\n", fs.Name(), why, fs.Name())
	return errUsage
}
