package configs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func written(e Expr) (string, error) { return "<" + e.String() + ">", nil }

func TestExpandString(t *testing.T) {
	for _, c := range []struct{ in, want, fail string }{
		{in: "plain $HOME ${HOME} ${x:-y} $", want: "plain $HOME ${HOME} ${x:-y} $"},
		{in: "${each}${each}", want: "<${each}><${each}>"},
		{in: "a ${train-2.result} b ${t.result.a.0.b-c_D}", want: "a <${train-2.result}> b <${t.result.a.0.b-c_D}>"},
		{in: "$${each} $${a.b} $$ $${", want: "${each} ${a.b} $$ $${"},
		{in: "${each:-x} ${EACH} ${a-b} ${a-1.5}", want: "${each:-x} ${EACH} ${a-b} ${a-1.5}"},
		{in: "${train.result", fail: `malformed expression "${train.result"`},
		{in: "x ${train.result y", fail: `malformed expression "${train.result"`},
		{in: "${train.reslt}", fail: `malformed expression "${train.reslt}"`},
		{in: "${train.result..a}", fail: "malformed"},
		{in: "${each", fail: "malformed"},
		{in: "${each.a}", fail: "malformed"},
		{in: "${t.result.a b}", fail: "malformed"},
	} {
		got, err := ExpandString(c.in, written)
		if got != c.want || (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%s\n got %s, %v\nwant %s %s", c.in, got, err, c.want, c.fail)
		}
	}
	if _, err := ExpandString("${each}", func(Expr) (string, error) { return "a\x00", nil }); err == nil {
		t.Error("a zero byte passes")
	}
	_, err := ExpandString("${a.result.b}", func(e Expr) (string, error) {
		if diff := cmp.Diff(Expr{Component: "a", Field: "result", Path: []string{"b"}}, e); diff != "" {
			t.Error(diff)
		}
		return "", os.ErrClosed
	})
	if err != os.ErrClosed {
		t.Errorf("the error of the value is lost: %v", err)
	}
}

func TestExpandShellTexts(t *testing.T) {
	for _, c := range []struct{ in, want, fail string }{
		{in: "echo ${each}", want: `echo "${LEVIN_VAR_1}"`},
		{in: `echo "got ${each}"`, want: `echo "got ${LEVIN_VAR_1}"`},
		{in: `echo 'got ${each}'`, want: `echo 'got '"${LEVIN_VAR_1}"''`},
		{in: "a ${each} ${t.result.x} ${each}", want: `a "${LEVIN_VAR_1}" "${LEVIN_VAR_2}" "${LEVIN_VAR_1}"`},
		{in: `a \${each} "\${each}" '\${each}'`, want: `a \${each} "\${each}" '\'"${LEVIN_VAR_1}"''`},
		{in: "a # ${each} 'it\nb ${each}", want: "a # ${each} 'it\n" + `b "${LEVIN_VAR_1}"`},
		{in: "a#${each}", want: `a#"${LEVIN_VAR_1}"`},
		{in: "a $# ${#} ${#x} ${each}", want: `a $# ${#} ${#x} "${LEVIN_VAR_1}"`},
		{in: `"$(echo ${each} "${each}")${each}"`, want: `"$(echo "${LEVIN_VAR_1}" "${LEVIN_VAR_1}")${LEVIN_VAR_1}"`},
		{in: "x=$(# it's\necho ${each})", want: "x=$(# it's\n" + `echo "${LEVIN_VAR_1}")`},
		{in: "(a; b) ${each}", want: `(a; b) "${LEVIN_VAR_1}"`},
		{in: "case x in a) b ${each};; esac", want: `case x in a) b "${LEVIN_VAR_1}";; esac`},
		{in: "echo $((1 + (2 << 3))) | x", want: "echo $((1 + (2 << 3))) | x"},
		{in: "cat <<EOF >${each}\nit's ${each} ${HOME} \"\nEOF\na ${each}", want: "cat <<EOF >\"${LEVIN_VAR_1}\"\nit's ${LEVIN_VAR_1} ${HOME} \"\nEOF\na \"${LEVIN_VAR_1}\""},
		{in: "cat <<-'E' <<F\n\tit's $(\n\tE\n`\nF\na ${each}", want: "cat <<-'E' <<F\n\tit's $(\n\tE\n`\nF\na \"${LEVIN_VAR_1}\""},
		{in: `node -e 'x => "${a.b}"'`, want: `node -e 'x => "${a.b}"'`},
		{in: "a `b` $'c\\'' ${x:-${y}}", want: "a `b` $'c\\'' ${x:-${y}}"},

		{in: "a `b ${each}`", fail: "${each} cannot be used inside backticks; use $(…); put it into env"},
		{in: "a ${x:-${each}}", fail: "${each} cannot be used inside another ${…}"},
		{in: "a $((${each} + 1))", fail: "inside arithmetic, where the shell would read its value again"},
		{in: "((x = ${each}))", fail: "inside arithmetic"},
		{in: `a $'\'' ${each}`, fail: "after $'…'"},
		{in: `a "${x:-'}" ${each}`, fail: "after a quote inside ${…} inside double quotes"},
		{in: `"$(case x in a) b ${each};; esac)"`, fail: "${each} cannot be used after a case or a [[ ]] inside $(…), where it cannot be told which ) is the last; put it into env and use that variable"},
		{in: strings.Repeat("$(", 60) + "${each}", fail: "${each} cannot be used after more than 50 quotes, $(…) and the like inside one another; put it into env"},
		{in: strings.Repeat("$(", 60_000), want: strings.Repeat("$(", 60_000)},
		{in: strings.Repeat(`"$(`, 20) + "${each}" + strings.Repeat(`)"`, 20), want: strings.Repeat(`"$(`, 20) + `"${LEVIN_VAR_1}"` + strings.Repeat(`)"`, 20)},
		{in: "cat <<'E'\n${each}\nE\n", fail: "after a here-document whose end is quoted"},
		{in: "cat <<E\n$(a ${each})\nE\n", fail: "after a command in a here-document"},
		{in: "cat <<E\n${x:-${each}}\nE\n", fail: "after ${…} in a here-document"},
		{in: "cat <<\\E\nE\n${each}", fail: "after a here-document whose end cannot be told"},
		{in: "cat <<E\na\\\nE\nE\n${each}", fail: "after a line of a here-document that ends with a backslash"},
		{in: "cat <<E \"\n${each}\"\nE\n", fail: "after a here-document that begins before a quote is closed"},
		{in: "$[${each}]", fail: "after $["},
		{in: "a ${t.reslt}", fail: "malformed"},
		{in: "a '${t.result.'", fail: "malformed"},
	} {
		got, vars, err := ExpandShell(c.in, written)
		if got != c.want || (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%s\n got %s, %v\nwant %s %s", c.in, got, err, c.want, c.fail)
		}
		if err == nil && strings.Count(got, "LEVIN_VAR_2") > 0 != (len(vars) == 2) {
			t.Errorf("%s: variables %v", c.in, vars)
		}
	}
	if _, _, err := ExpandShell("${each}", func(Expr) (string, error) { return "a\x00", nil }); err == nil {
		t.Error("a zero byte passes")
	}
}

// hostile are values that become something else when a shell reads them, splits
// them or matches them with files.
var hostile = []string{
	"plain", "", " ", "two words", "$(touch pwned)", "`touch pwned`", "; touch pwned;", "\n touch pwned\n", "' ; touch pwned ; '",
	"\" ; touch pwned ; \"", "*", "?", "~", "\\", "a\\", "${HOME}", "$HOME", "# x", "-n", "a'b\"c", "EOF\ntouch pwned\nEOF", ")", "}", "x[$(touch pwned)]", "ü\t€", "&& touch pwned", "trailing\n\n.",
}

func shells(t testing.TB) []string {
	t.Helper()
	var found []string
	for _, name := range []string{"sh", "dash", "bash"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Skip("there is no shell here")
	}
	return found
}

// runShell runs a line in a folder of its own and gives what it printed. A value
// that was read as shell text leaves a file there.
func runShell(t testing.TB, shell, line string, vars map[string]string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a-file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shell, "-c", line)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nowhere"}
	for name, v := range vars {
		cmd.Env = append(cmd.Env, name+"="+v)
	}
	out, err := cmd.Output()
	if _, statErr := os.Stat(filepath.Join(dir, "pwned")); statErr == nil {
		t.Fatalf("%s: a value was read as shell text\nline %s\nvalues %q", shell, line, vars)
	}
	return string(out), err
}

// Whatever the value is, it comes out of a real shell as it went in: one word.
func TestExpandShellKeepsValues(t *testing.T) {
	const show = `show() { for a in "$@"; do printf '[%s]' "$a"; done; }; `
	for _, c := range []struct{ line, want string }{
		{"show ${each} z", "[V][z]"},
		{"show a${each}b", "[aVb]"},
		{`show "a ${each} b"`, "[a V b]"},
		{`show 'a ${each} b'`, "[a V b]"},
		{`show 'a'${each}"b"`, "[aVb]"},
		{"x=${each}; show \"$x\"", "[V]"},
		{`show "$(printf '%s.' ${each})"`, "[V.]"},
		{`show "$(printf '%s.' "${each}")"`, "[V.]"},
		{`show "$(printf '%s.' '${each}')"`, "[V.]"},
		{"if true; then # it's ${each}\nshow ${each}; fi", "[V]"},
		{"cat <<EOF\n'${each}\"\nEOF\nshow ${each}", "'V\"\n[V]"},
		{"for i in ${each} z; do show \"$i\"; done", "[V][z]"},
		{`(show ${each}) # "`, "[V]"},
		{`case ${each} in "${each}") show ${each};; esac`, "[V]"},
		{`show \\${each} \"${each}`, `[\V]["V]`},
		{`show "${x:-d}" ${each}`, "[d][V]"},
		{"show ${each} \\\n  ${each}", "[V][V]"},
	} {
		for i, value := range hostile {
			line, vars, err := ExpandShell(c.line, func(Expr) (string, error) { return value, nil })
			if err != nil {
				t.Fatalf("%s: %v", c.line, err)
			}
			all := shells(t)
			shell := all[i%len(all)]
			got, err := runShell(t, shell, show+line, vars)
			if want := strings.ReplaceAll(c.want, "V", value); got != want || err != nil {
				t.Errorf("%s: %s with %q\n got %q, %v\nwant %q", shell, c.line, value, got, err, want)
			}
		}
	}
}

// Lines put together at random from all that a shell can be confused with. They
// may be refused, but one that is taken does with a hostile value what it does
// with a plain word that stands in the line itself.
func TestExpandShellRandomLines(t *testing.T) {
	pieces := []string{
		"${each}", "${each}", "${each}", "${each}", " ", " ", "\n", "'", "\"", "'", "\"", "`", "$(", ")", "(", "${x:-", "}", "#", "<<EOF\n", "\nEOF\n", "<<'E'\n", "\nE\n", "$((", "))",
		"echo ", "echo ", "echo ", "; ", "case a in a) ", ";; esac", "$'", " x=", "if true; then ", "; fi", "{ ", "; }", "| cat", "&& ", "<<-EOF\n\t", "((", "<", "\\",
	}
	const plain = "QQ"
	value := "q  '\";`touch pwned`$(touch pwned) * ? ; touch pwned #"
	all := shells(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	compared, printed := 0, 0
	for i := range 60_000 {
		var b strings.Builder
		b.WriteString("echo ")
		for range 1 + rnd.IntN(9) {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		in := b.String()
		line, vars, err := ExpandShell(in, func(Expr) (string, error) { return value, nil })
		if err != nil || len(vars) == 0 || strings.Contains(in, `\$`) || compared >= 350 {
			continue
		}
		quiet := "exec </dev/null 2>/dev/null\n"
		if strings.Contains(in, "$(") {
			quiet += "IFS=; set -f\n" // what $(…) prints may be split: that is the user's shell at work
		}
		shell := all[i%len(all)]
		want, err := runShell(t, shell, quiet+strings.ReplaceAll(in, "${each}", plain), nil)
		if err != nil {
			continue // the user's line is wrong by itself
		}
		got, err := runShell(t, shell, quiet+line, vars)
		compared++
		if strings.Contains(want, plain) {
			printed++
		}
		if want := strings.ReplaceAll(want, plain, value); got != want || err != nil {
			t.Errorf("%s: %q became %q\n got %q, %v\nwant %q", shell, in, line, got, err, want)
		}
	}
	if compared < 200 || printed < 100 {
		t.Errorf("%d lines were compared, %d of them showed the value", compared, printed)
	}
}

func FuzzExpandShell(f *testing.F) {
	for _, s := range []string{"a ${each} 'b ${t.result.x}' \"$(c ${each})\"", "cat <<E\n${each}\nE\n", "`${each}`", "${x:-\"${each}\"}", "$((1)) # ${each}\n'", "case x in a) ;; esac"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		const secret = "\x01value\x02"
		calls := 0
		value := func(e Expr) (string, error) {
			calls++
			if e.Field != "each" && (e.Field != "result" || e.Component == "") {
				return "", fmt.Errorf("no such expression: %+v", e)
			}
			return secret, nil
		}
		got, vars, err := ExpandShell(line, value)
		if err != nil {
			return
		}
		if calls != len(vars) {
			t.Fatalf("%d values, %d variables", calls, len(vars))
		}
		if !strings.Contains(line, secret) && strings.Contains(got, secret) {
			t.Fatalf("the value is in the line: %q", got)
		}
		if calls == 0 && got != line {
			t.Fatalf("%q became %q", line, got)
		}
		again, vars2, _ := ExpandShell(line, value)
		if again != got || !maps.Equal(vars, vars2) {
			t.Fatal("not the same twice")
		}
		if _, err := ExpandString(line, func(Expr) (string, error) { return secret, nil }); err != nil && !strings.Contains(err.Error(), "malformed") {
			t.Fatal(err)
		}
	})
}
