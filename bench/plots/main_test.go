package main

import (
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const found = `{"void": [], "rows": [
	{"workload": "cold", "title": "Cold: new domains", "first": "cpu_us", "head": "µs CPU/domain", "server": "danelaw",
	 "ours": true, "values": {"cpu_us": {"median": 300, "low": 290, "high": 310}}},
	{"workload": "cold", "title": "Cold: new domains", "first": "cpu_us", "head": "µs CPU/domain", "server": "unbound",
	 "void": "it lost too much", "values": {"cpu_us": {"median": 400, "low": 390, "high": 420}}},
	{"workload": "hot", "title": "Hot", "first": "cpu_us", "head": "µs CPU/query", "server": "danelaw",
	 "ours": true, "values": {"cpu_us": {"median": 3, "low": 3, "high": 3}}}
]}`

// TestDraw: each workload becomes a picture in both forms, which names servers, title and unit.
func TestDraw(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	if err := draw(strings.NewReader(found), dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 {
		t.Fatalf("%v %v", files, err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "cold.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{">danelaw<", ">unbound (void)<", ">Cold: new domains<", ">µs CPU/domain<"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the picture lacks %s: %s", want, svg)
		}
	}
	tokens := xml.NewDecoder(strings.NewReader(string(svg)))
	for err = nil; err == nil; {
		_, err = tokens.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	f, err := os.Open(filepath.Join(dir, "hot.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if picture, err := png.Decode(f); err != nil || picture.Bounds().Dx() < 300 {
		t.Errorf("%v %v", picture, err)
	}
}

// TestCannotDraw: what is no such JSON, and a directory that cannot be, are told.
func TestCannotDraw(t *testing.T) {
	for text, dir := range map[string]string{"no JSON": t.TempDir(), found: "/dev/null/no"} {
		if err := draw(strings.NewReader(text), dir); err == nil {
			t.Errorf("%q is drawn into %s", text, dir)
		}
	}
}
