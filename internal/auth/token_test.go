package auth

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWhereATokenComesFrom(t *testing.T) {
	t.Parallel()
	const none = "(none)"
	long := strings.Repeat("x", maxToken+1)
	for _, c := range []struct {
		init, header, cookie string
		want                 string // "" refuses
	}{
		{`{"Authorization":"Bearer t"}`, "", "", "t"},
		{`{"Authorization":"bearer   t "}`, "", "", "t"},
		{`{"authorization":"t"}`, "", "", "t"},
		{`{"authToken":"t"}`, "", "", "t"},
		{`{"headers":{"Authorization":"Bearer t"}}`, "", "", "t"},
		{`{"headers":{"authorization":"t"}}`, "", "", "t"},
		{`{"Authorization":"1","authorization":"2","authToken":"3","headers":{"Authorization":"4"}}`, "", "", "1"},
		{`{"Authorization":null,"authToken":"3"}`, "", "", "3"},
		{``, "Bearer t", "", "t"},
		{`null`, "BEARER t", "", "t"},
		{`{}`, "", "t", "t"},
		{`{"a":1}`, "Bearer h", "c", "h"},
		{`{"authToken":"p"}`, "Bearer h", "c", "p"},
		{``, "Basic dTpw", "c", "c"}, // a proxy's password, perhaps
		// What is given badly is not made good by another place.
		{`{"authToken":""}`, "Bearer h", "c", ""},
		{`{"authToken":7}`, "Bearer h", "c", ""},
		{`{"Authorization":["t"],"authToken":"p"}`, "", "", ""},
		{`{"authToken":"` + long + `"}`, "", "", ""},
		{``, "Bearer " + long, "c", ""},
		{``, "Bearer ", "c", ""},
		{``, "", "", none},
		{`{}`, "Basic dTpw", "", none},
		{`{"AuthToken":"t","token":"t","headers":{"authToken":"t"}}`, "", "", none},
		{`{"headers":"t"}`, "", "", none},
		{`[]`, "", "", none},
	} {
		r := httptest.NewRequest(http.MethodGet, "/?token=t&access_token=t&authorization=t", nil)
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		if c.cookie != "" {
			r.AddCookie(&http.Cookie{Name: "session", Value: c.cookie})
		}
		got, err := Token([]byte(c.init), r, "session")
		if err == ErrNoToken {
			got = none
		}
		if got != c.want || (c.want == "") != (err != nil && err != ErrNoToken) {
			t.Errorf("%.60s %.20q %q: %q, %v, want %q", c.init, c.header, c.cookie, got, err, c.want)
		}
		if _, err := Token([]byte(c.init), r, ""); c.want == c.cookie && c.cookie != "" && err != ErrNoToken {
			t.Errorf("%s: the cookie was taken unasked", c.init)
		}
	}
}

func TestPingsThatCarryAToken(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]bool{
		``: false, `null`: false, `{}`: false, `{"at":1}`: false, `{"headers":{}}`: false, `{"authToken":null}`: false,
		`{"authToken":"t"}`: true, `{"headers":{"Authorization":"t"}}`: true, `{"authToken":7}`: true, `{"Authorization":""}`: true,
	} {
		if got := CarriesToken([]byte(payload)); got != want {
			t.Errorf("%s: %v", payload, got)
		}
	}
}
