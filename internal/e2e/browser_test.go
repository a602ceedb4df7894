//go:build browser

package e2e

import (
	"cmp"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"testing"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// A page in a real Chromium is reloaded while others write and the server is killed: it goes on where it was, and its list
// is the table in the end. Chromium is at /usr/bin/chromium or where CHROMIUM says.
func TestAListOutlivesItsPageInABrowser(t *testing.T) {
	dir := jsClient(t)
	db := pgtest.New(t)
	db.Exec(t, itemsTable)
	addr := freeAddr(t)
	srv := serve(t, db.URL, addr)
	pages := http.NewServeMux()
	pages.Handle("/", http.FileServer(http.Dir(dir)))
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	proxy.ErrorLog = log.New(io.Discard, "", 0) // while the server is away
	pages.Handle("/graphql", proxy)
	site := httptest.NewServer(pages)
	defer site.Close()

	writers := startItemsWriters(t, db.URL)
	f := &follower{process: launch(t, dir, nil, "node", "test/browser.mjs", site.URL+"/test/page.html", cmp.Or(os.Getenv("CHROMIUM"), "/usr/bin/chromium"))}
	f.until(t, "begun")
	for i := range 6 {
		fmt.Fprintln(f.stdin, "reload")
		made := f.until(t, "made")
		anew := f.anew
		f.live(t, 0, 30)
		switch {
		case i == 0: // in the middle of the first snapshot
		case made.Rows == 0:
			t.Error("nothing was kept over a reload")
		case f.anew > anew:
			t.Errorf("the list began anew after reload %d", i)
		}
		if i == 3 {
			srv.stop(os.Kill) //nolint:errcheck // killed
			writers.await(t, 20)
			srv = serve(t, db.URL, addr)
		}
		f.until(t, "kept")
	}
	writers.stop(t)
	f.is(t, db)
	f.stdin.Close()
	for range f.lines { // until Chromium has cleared up and ended
	}
}
