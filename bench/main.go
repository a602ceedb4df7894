// Command bench measures what notifyql promises, each beside a raw baseline in the same run, and prints ratios: absolute
// figures change with the machine, ratios much less.
//
//	go run ./bench latency   from the write to the socket, beside a bare LISTEN
//	go run ./bench fanout    one change to many sockets, beside a loop that writes the same bytes to the same kind of sockets
//	go run ./bench capture   what the trigger alone costs, beside an unwatched table and a naive trigger
//	go run ./bench writers   what watching costs those who write, beside an unwatched table and a naive trigger
//	go run ./bench lag       from the write to the stream at growing rates, quiet, busy and auto, beside a bare LISTEN
//	go run ./bench inline    what the modes cost a quiet stream, beside triggers that always notify
//	go run ./bench rows      the rows of a table as they stand, beside a COPY of them
//	go run ./bench catchup   how quickly who was away catches up, beside how quickly it was written
//	go run ./bench storm     ten thousand who come back at once, beside one alone
//	go run ./bench pause     how long nothing arrives after a connection, the leader or Postgres died
//	go run ./bench burst     how soon the stream is busy when many write at once
//	go run ./bench import    what others notice of a tenant that imports a million rows in one transaction
//	go run ./bench attack    what clients notice of a thousand that mean harm
//	go run ./bench next      what an event costs whoever reads it in process, beside a channel of Go's
//	go run ./bench start     how soon the binary is ready, its size, and its memory when idle
//	go run ./bench load      what could grow while as much is written as can be, of -seconds 600
//	go run ./bench           all
//
// With -check FILE it runs a short share of them, and compares their ratios with those in the file; -record FILE writes it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/notifyql/notifyql/internal/localpg"
	"github.com/notifyql/notifyql/internal/pg/migrate"
)

type benchmark struct {
	name string
	run  func(ctx context.Context, seconds int) error
}

func main() {
	seconds := flag.Int("seconds", 5, "length of each measured phase")
	reader := flag.String("reader", "", "be the reading side of fanout, at this address")
	hostile := flag.String("hostile", "", "be the clients of this name of attack, at the address that -reader has")
	sockets := flag.Int("sockets", 1000, "sockets of fanout")
	subscribers := flag.Int("subscribers", 100, "subscribers of latency")
	checkFile := flag.String("check", "", "compare ratios with those in this file, and fail if one is worse")
	recordFile := flag.String("record", "", "write ratios to this file")
	tolerance := flag.Float64("tolerance", 2, "by which factor a ratio may be worse than the one in the file of -check")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *hostile != "" {
		exit(beHostile(ctx, *hostile, *reader, *sockets))
		return
	}
	if *reader != "" {
		exit(readSockets(ctx, *reader, *sockets))
		return
	}
	few := slices.DeleteFunc(checked(*subscribers, *sockets), func(b benchmark) bool {
		return flag.NArg() > 0 && !slices.Contains(flag.Args(), b.name)
	})
	switch {
	case *checkFile != "":
		exit(check(ctx, few, *seconds, *checkFile, *tolerance))
		return
	case *recordFile != "":
		exit(record(ctx, few, *seconds, *recordFile))
		return
	}
	all := []benchmark{
		{"latency", func(ctx context.Context, s int) error { return latency(ctx, s, *subscribers) }},
		{"fanout", func(ctx context.Context, s int) error { return fanout(ctx, s, *sockets) }},
		{"capture", capture},
		{"writers", writers},
		{"lag", lag},
		{"inline", inline},
		{"rows", readRows},
		{"catchup", catchup},
		{"storm", storm},
		{"pause", pauses},
		{"burst", burst},
		{"import", imports},
		{"attack", underAttack},
		{"next", next},
		{"start", start},
		{"load", load},
	}
	fmt.Printf("%s, %d cores, %s\n", runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	for _, b := range all {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), b.name) {
			continue
		}
		fmt.Printf("\n## %s\n", b.name)
		exit(b.run(ctx, *seconds))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// durable is how a database is run where its data matters.
var durable = map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_wal_size": "4GB"}

// database starts a Postgres whose data matters, with notifyql and the tables of a benchmark in it, and connects to it.
func database(ctx context.Context, statements ...string) (url string, conn *pgx.Conn, stop func(), err error) {
	db, err := localpg.Start(ctx, localpg.Options{Settings: durable})
	if err != nil {
		return "", nil, nil, err
	}
	stop = func() {
		if conn != nil {
			conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it has served
		}
		db.Stop() //nolint:errcheck // the measurement counts
	}
	url = db.URL("postgres")
	if err = migrate.Up(ctx, url); err == nil {
		conn, err = pgx.Connect(ctx, url)
	}
	for _, sql := range statements {
		if err == nil {
			_, err = conn.Exec(ctx, sql)
		}
	}
	if err != nil {
		stop()
		return "", nil, nil, err
	}
	return url, conn, stop, nil
}

// own makes a database with notifyql and the tables of a benchmark in it.
func own(ctx context.Context, db *localpg.Server, name string, statements ...string) (url string, err error) {
	if err := db.CreateDatabase(ctx, name, ""); err != nil {
		return "", err
	}
	url = db.URL(name)
	if err := migrate.Up(ctx, url); err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // it has served
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("%s: %w", sql, err)
		}
	}
	return url, nil
}

// quantile returns the q-quantile of times, which it sorts.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(len(times)-1, int(q*float64(len(times))))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }

func median(xs []float64) float64 {
	slices.Sort(xs)
	return xs[len(xs)/2]
}
