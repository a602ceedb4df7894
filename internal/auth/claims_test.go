package auth

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestClaimsToAnIdentity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		names  Names
		claims string
		want   string // user, tenants, roles; empty: refused
	}{
		{Names{"tenant", "sub", "roles"}, `{"tenant":"a","sub":"u","roles":["x","y"]}`, `"u" ["a"] ["x" "y"]`},
		{Names{"tenant", "sub", "scope"}, `{"tenant":["a","b"],"sub":12,"scope":"read  write"}`, `"12" ["a" "b"] ["read" "write"]`},
		{Names{"tenant", "sub", "roles"}, `{}`, `"" [] []`},
		{Names{"tenant", "sub", "roles"}, `{"tenant":null,"sub":null,"roles":null}`, `"" [] []`},
		{Names{"tenant", "sub", "roles"}, `{"Tenant":"a","SUB":"u"}`, `"" [] []`},
		// More digits than a float holds: the neighbour's id is another.
		{Names{"tenant", "sub", "roles"}, `{"tenant":[9007199254740993]}`, `"" ["9007199254740993"] []`},
		// Nested, and names with dots in them, which come first.
		{Names{"org.id", "u.v.w", "realm_access.roles"}, `{"org":{"id":"a"},"u":{"v":{"w":"u"}},"realm_access":{"roles":["r"]}}`, `"u" ["a"] ["r"]`},
		{Names{"org.id", "sub", "roles"}, `{"org.id":"dotted","org":{"id":"nested"}}`, `"" ["dotted"] []`},
		{Names{"https://app.example.com/tenant", "sub", "https://app.example.com/x.roles"}, `{"https://app.example.com/tenant":"a","https://app.example.com/x":{"roles":["r"]}}`, `"" ["a"] ["r"]`},
		{Names{"a.b.c", "sub", "roles"}, `{"a.b":{"c":"long"},"a":{"b.c":"short"}}`, `"" ["long"] []`},
		{Names{"a.b.c", "sub", "roles"}, `{"a.b":{"d":1},"a":{"b.c":"short"}}`, `"" ["short"] []`},
		{Names{"org.id", "sub", "roles"}, `{"org":"a"}`, `"" [] []`},
		{Names{"org.id", "sub", "roles"}, `{"org":[{"id":"a"}]}`, `"" [] []`},
		{Names{"tenant", "sub", "roles"}, `{"tenant":1e3}`, ``},
		{Names{"tenant", "sub", "roles"}, `{"tenant":true}`, ``},
		{Names{"tenant", "sub", "roles"}, `{"tenant":[["a"]]}`, ``},
		{Names{"tenant", "sub", "roles"}, `{"tenant":["a",null]}`, ``},
		{Names{"tenant", "sub", "roles"}, `{"sub":["u"]}`, ``},
		{Names{"tenant", "sub", "roles"}, `{"roles":{"admin":true}}`, ``},
	} {
		v, err := decode([]byte(c.claims))
		if err != nil {
			t.Fatal(err)
		}
		id, err := c.names.identity(v.(map[string]any))
		got := ""
		if err == nil {
			got = fmt.Sprintf("%q %q %q", id.UserID, id.Tenants, id.Roles)
		}
		if got != c.want {
			t.Errorf("%v of %s: %s (%v), want %s", c.names, c.claims, got, err, c.want)
		}
	}
}

// An identity is of one meaning: what is not exactly UTF-8, or more than one value, is none.
func TestDecodeIsStrict(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		`{"a":1}`: true, ` [] `: true, `{"a":1}{"a":2}`: false, `{"a":1},`: false, "{\"a\":\"\xff\"}": false, ``: false, `{`: false,
	} {
		if v, err := decode([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v, %v", text, v, err)
		}
	}
	if v, err := decode([]byte(`12345678901234567890`)); err != nil || v != json.Number("12345678901234567890") {
		t.Errorf("%v, %v", v, err)
	}
}
