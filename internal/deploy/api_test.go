package deploy

import (
	"bytes"
	"cmp"
	"flag"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/api.txt anew")

// face is what a package shows: a line for each exported name, and the names that nothing is said of.
type face struct {
	pkg          string
	lines        []string
	undocumented []string
}

// faces are those of all packages that a program can import, in all modules.
func faces(t *testing.T) (all []face) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		switch base := d.Name(); {
		case base != ".." && strings.HasPrefix(base, "."), slices.Contains([]string{"internal", "cmd", "examples", "bench", "test", "testdata", "tools", "clients", "migrations", "node_modules"}, base):
			return filepath.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return err
		}
		f := face{pkg: filepath.ToSlash(filepath.Join("notifyql", strings.TrimPrefix(dir, filepath.Join("..", ".."))))}
		said := false
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			said = said || file.Doc != nil
			for _, d := range file.Decls {
				f.add(set, d)
			}
		}
		if len(f.lines) > 0 {
			if !said {
				f.undocumented = append(f.undocumented, "the package")
			}
			slices.Sort(f.lines)
			all = append(all, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b face) int { return cmp.Compare(a.pkg, b.pkg) })
	return all
}

func (f *face) add(set *token.FileSet, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		of := receiver(d)
		if !d.Name.IsExported() || of != "" && !ast.IsExported(of) {
			return
		}
		name := d.Name.Name
		if of != "" {
			name = of + "." + name
		}
		docs := []*ast.CommentGroup{d.Doc}
		if of != "" && (d.Name.Name == "Error" || d.Name.Name == "String") {
			docs = append(docs, &ast.CommentGroup{}) // everybody knows what those are
		}
		f.name(name, "func "+name+strings.TrimPrefix(source(set, d.Type), "func"), docs...)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					f.typ(set, s, d.Doc)
				}
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() {
						f.name(n.Name, strings.TrimSpace(d.Tok.String()+" "+n.Name+" "+source(set, s.Type)), d.Doc, s.Doc, s.Comment)
					}
				}
			}
		}
	}
}

func (f *face) typ(set *token.FileSet, s *ast.TypeSpec, doc *ast.CommentGroup) {
	name := s.Name.Name
	switch u := s.Type.(type) {
	case *ast.StructType:
		f.name(name, "type "+name+" struct", doc, s.Doc)
		for _, field := range u.Fields.List {
			for _, n := range field.Names {
				if n.IsExported() {
					f.lines = append(f.lines, name+"."+n.Name+" "+source(set, field.Type))
				}
			}
		}
	case *ast.InterfaceType:
		f.name(name, "type "+name+" interface", doc, s.Doc)
		for _, m := range u.Methods.List {
			for _, n := range m.Names {
				f.name(name+"."+n.Name, name+"."+n.Name+strings.TrimPrefix(source(set, m.Type), "func"), m.Doc, m.Comment)
			}
		}
	default:
		is := ""
		if s.Assign.IsValid() {
			is = "= "
		}
		f.name(name, "type "+name+" "+is+source(set, s.Type), doc, s.Doc, s.Comment)
	}
}

func (f *face) name(name, line string, docs ...*ast.CommentGroup) {
	f.lines = append(f.lines, line)
	if !slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d != nil }) {
		f.undocumented = append(f.undocumented, name)
	}
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	return t.(*ast.Ident).Name
}

// source is an expression in one line.
func source(set *token.FileSet, x ast.Expr) string {
	if x == nil {
		return ""
	}
	var b bytes.Buffer
	if err := printer.Fprint(&b, set, x); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// Whoever imports a package finds something said of each name in it.
func TestEveryNameIsDocumented(t *testing.T) {
	t.Parallel()
	for _, f := range faces(t) {
		for _, name := range f.undocumented {
			t.Errorf("%s: nothing is said of %s", f.pkg, name)
		}
	}
}

// What a program can use does not change by accident. To change it on purpose: go test ./internal/deploy -run TestExportedNames -update
func TestExportedNames(t *testing.T) {
	t.Parallel()
	const golden = "testdata/api.txt"
	var b strings.Builder
	for _, f := range faces(t) {
		for _, line := range f.lines {
			b.WriteString(f.pkg + ": " + line + "\n")
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	before, now := strings.Split(string(was), "\n"), strings.Split(b.String(), "\n")
	for _, line := range before {
		if !slices.Contains(now, line) {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
	if t.Failed() {
		t.Log("if that is meant: go test ./internal/deploy -run TestExportedNames -update")
	}
}
