// Package configs reads the app file and the settings: strict YAML, then
// defaults, then validation, and the JSON Schema that editors use.
//
// Errors carry the file, line and column, the offending text and the nearest
// valid key, and all of them are reported at once.
package configs
