package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/levinrun/levin/configs"
)

// What the README shows is what is there: the example's app file to the letter,
// settings that load, commands and flags that exist.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	app, err := os.ReadFile("../../examples/train-analyze/app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	blocks := codeBlocks(readme, "yaml")
	if len(blocks) != 2 || blocks[0] != string(app) {
		t.Errorf("the README's first YAML block is not examples/train-analyze/app.yaml")
	}

	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte(blocks[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"LEVIN_CONFIG": file, "HOME": t.TempDir()}
	settings, err := configs.LoadSettings(configs.SettingsInput{Dir: "/", Env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }})
	if err != nil || len(settings.Clouds["rack"].Hosts) != 1 {
		t.Errorf("the README's settings: %v", err)
	}

	root := newRoot(&deps{})
	for _, block := range codeBlocks(readme, "sh") {
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "levin" {
				continue
			}
			cmd, rest, err := root.Find(words[1:])
			if err != nil || cmd == root {
				t.Errorf("%s: there is no such command", line)
				continue
			}
			for _, w := range rest {
				name, isFlag := strings.CutPrefix(w, "--")
				short := strings.HasPrefix(w, "-") && !isFlag
				if isFlag && cmd.Flag(name) == nil || short && cmd.Flags().ShorthandLookup(w[1:]) == nil {
					t.Errorf("%s: there is no flag %s", line, w)
				}
			}
		}
	}
}

// codeBlocks gives the fenced blocks of one language.
func codeBlocks(markdown, language string) []string {
	var blocks []string
	for _, part := range strings.Split(markdown, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}
