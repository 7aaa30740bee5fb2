package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danelaw-dns/danelaw/plugin/danelaw"
	"github.com/danelaw-dns/danelaw/plugin/drawing"
)

// contracts are the types of what commands print with --json, which programs rely on.
var contracts = map[string]any{
	"bench":                                 benchJSON{},
	"check":                                 checkJSON{},
	"check NAME TYPE":                       drawing.Chain{},
	"check --queue":                         queueJSON{},
	"doctor":                                []finding{},
	"lab":                                   labJSON{},
	"tlsa":                                  plannedJSON{},
	"version":                               versionJSON{},
	"watch":                                 watchJSON{},
	"status":                                danelaw.StatusReply{},
	"anchors":                               danelaw.AnchorsReply{},
	"anchors import, what the daemon reads": danelaw.AnchorsRequest{},
	"nta":                                   danelaw.NTAReply{},
	"nta, what the daemon reads":            danelaw.NTARequest{},
	"flush":                                 danelaw.FlushReply{},
	"cache stats":                           danelaw.CacheReply{},
	"policy query":                          danelaw.PolicyReply{},
	"cache dump":                            danelaw.DumpReply{},
	"notify, what the command reads":        danelaw.Alarm{},
	"errors of the daemon":                  danelaw.ErrorReply{},
}

// TestContracts: the names and types of what is printed as JSON are those of testdata/contracts.txt. Who changes
// one changes that file, and tells it in CHANGELOG.md.
func TestContracts(t *testing.T) {
	var lines []string
	for command, value := range contracts {
		lines = append(lines, fieldsOf(t, command, reflect.TypeOf(value))...)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	file := filepath.Join("testdata", "contracts.txt")
	want, err := os.ReadFile(file)
	if err == nil && string(want) == got {
		return
	}
	if os.Getenv("DANELAW_WRITE_CONTRACTS") != "" {
		err = os.WriteFile(file, []byte(got), 0o644)
	} else {
		before := strings.Split(string(want), "\n")
		for _, line := range lines {
			if !slices.Contains(before, line) {
				t.Errorf("%s lacks: %s", file, line)
			}
		}
		for _, line := range before {
			if line != "" && !slices.Contains(lines, line) {
				t.Errorf("printed no more: %s", line)
			}
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// fieldsOf lists the fields of a type and all below, each with its path, its type and whether it may be left out.
// Nothing but fields with a name in JSON may be there, of no types but those of the contract.
func fieldsOf(t *testing.T, path string, of reflect.Type) (lines []string) {
	switch of.Kind() {
	case reflect.Pointer:
		return fieldsOf(t, path, of.Elem())
	case reflect.Slice:
		return fieldsOf(t, path+"[]", of.Elem())
	case reflect.Map:
		return fieldsOf(t, path+"{}", of.Elem())
	case reflect.Struct:
	default:
		return []string{path + ": " + of.Kind().String()}
	}
	if of == reflect.TypeFor[time.Time]() {
		return []string{path + ": time"}
	}
	if here := of.PkgPath(); here != reflect.TypeFor[checkJSON]().PkgPath() &&
		here != reflect.TypeFor[danelaw.NTA]().PkgPath() && here != reflect.TypeFor[drawing.Chain]().PkgPath() {
		t.Errorf("%s is a %v: a type of another room is no contract", path, of)
	}
	for i := range of.NumField() {
		f := of.Field(i)
		name, omitted, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			lines = append(lines, fieldsOf(t, path, f.Type)...)
		case name == "" || name == "-":
			t.Errorf("%s: %v.%s is no part of the contract: keep it elsewhere", path, of, f.Name)
		default:
			lines = append(lines,
				fieldsOf(t, fmt.Sprintf("%s .%s%s", path, name, map[bool]string{true: "?"}[omitted != ""]), f.Type)...)
		}
	}
	return lines
}
