/**
 * The style of the report: one column of text, figures in as many columns as fit, light or dark as
 * the reader's system is. Fonts are the system's. Colours differ in lightness too, for those who
 * see few of them, and everything that is coloured is also said in words or numbers.
 */

export const STYLE = `
:root {
  color-scheme: light dark;
  --ground: #fbfbfa; --panel: #ffffff; --ink: #1c2127; --soft: #565e68; --line: #dcdfe3; --grid: #e6e8eb;
  --shade: #00000038; --accent: #0b5cad; --good: #17663a; --good-ground: #e3f3e8; --bad: #a02b16; --bad-ground: #fbe9e5;
  --vanilla: #c2570c; --compaction: #1560bd; --moved: #6b4aa8;
  --kernel: #b3261e; --kernel-few: #e08e86; --anon: #c77700; --anon-few: #efc070;
  --cache: #1f8a70; --cache-few: #93cdbd; --huge: #27408b; --free: #e3e6ea; --reserved: #8a929c;
  --o0: #e8f1fa; --o1: #c3dcf1; --o2: #93c0e6; --o3: #5a9bd2; --o4: #2f72b2; --o5: #14406f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #111519; --panel: #181d23; --ink: #e6e9ec; --soft: #a5aeb8; --line: #323a43; --grid: #2a3138;
    --shade: #000000b0; --accent: #7db7f5; --good: #7fd6a0; --good-ground: #143323; --bad: #ff9f8a; --bad-ground: #3d1c16;
    --vanilla: #f29a58; --compaction: #6eaef8; --moved: #b79cf0;
    --kernel: #f0675c; --kernel-few: #8d3a35; --anon: #f2b04c; --anon-few: #85601f;
    --cache: #47c2a3; --cache-few: #22604f; --huge: #8fa8ff; --free: #2c343d; --reserved: #6d7681;
    --o0: #16324a; --o1: #1d4a72; --o2: #2a689d; --o3: #4a90cb; --o4: #83bbe8; --o5: #cfe6fa;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main, header, footer { max-width: 1200px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: clamp(1.6rem, 1.1rem + 2.2vw, 2.5rem); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 12px; }
h2 { font-size: 1.55rem; line-height: 1.25; letter-spacing: -0.01em; margin: 64px 0 8px; }
h3 { font-size: 1.2rem; margin: 0 0 4px; }
h4 { font-size: 1rem; margin: 28px 0 8px; }
p { margin: 0 0 12px; max-width: 46rem; }
.lead { font-size: 1.1rem; color: var(--soft); }
.soft { color: var(--soft); }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
code, pre { font: 0.875rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre {
  background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; margin: 8px 0 16px;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr)); gap: 12px; margin: 24px 0; padding: 0; }
.tiles div { background: var(--panel); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tiles dt { color: var(--soft); font-size: 0.875rem; }
.tiles dd { margin: 0; font-size: 1.6rem; font-weight: 650; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.group { background: var(--panel); border: 1px solid var(--line); border-radius: 16px; padding: 24px; margin: 24px 0; }
.scroll {
  overflow-x: auto; margin: 12px 0;
  /* A shadow where there is more to see: the ground scrolls with the table and covers it at the ends. */
  background:
    linear-gradient(90deg, var(--panel) 40%, transparent) 0 0 / 36px 100% local,
    linear-gradient(270deg, var(--panel) 40%, transparent) 100% 0 / 36px 100% local,
    radial-gradient(farthest-side at 0 50%, var(--shade), transparent) 0 0 / 14px 100% scroll,
    radial-gradient(farthest-side at 100% 50%, var(--shade), transparent) 100% 0 / 14px 100% scroll;
  background-repeat: no-repeat;
}
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: 0.875rem; padding: 0 0 6px; }
th, td { padding: 7px 9px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; }
tr.theirs th, tr.theirs td { color: var(--soft); border-bottom-width: 2px; }
tbody th { white-space: normal; min-width: 8.5rem; }
.met, .unmet { display: inline-block; border-radius: 999px; padding: 0 10px; font-size: 0.85rem; font-weight: 600; }
.met { color: var(--good); background: var(--good-ground); }
.unmet { color: var(--bad); background: var(--bad-ground); }
.remarks { color: var(--soft); padding-left: 1.1rem; margin: 8px 0; max-width: 46rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); gap: 20px 28px; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(46%, 210px), 1fr)); gap: 16px; margin-bottom: 20px; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-weight: 600; font-size: 0.92rem; margin-bottom: 6px; }
.map figcaption { font-weight: 500; font-size: 0.85rem; color: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; list-style: none; margin: 6px 0 0; padding: 0; font-size: 0.82rem; color: var(--soft); }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend svg { width: auto; flex: none; }
.note { font-size: 0.82rem; color: var(--soft); margin: 4px 0 0; }
.words dt { font-weight: 600; color: var(--ink); } .words dd { margin: 0 0 10px; max-width: 46rem; }
footer h2 { font-size: 1.1rem; color: var(--ink); margin: 28px 0 8px; }
details { margin-top: 20px; border-top: 1px solid var(--line); padding-top: 12px; }
summary { cursor: pointer; font-weight: 600; }
.tick, .label { font-size: 11px; fill: var(--soft); }
.grid { stroke: var(--grid); fill: none; }
.edge { stroke: var(--soft); stroke-dasharray: 2 3; fill: none; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
.line.vanilla { stroke: var(--vanilla); stroke-dasharray: 6 4; }
.line.compaction { stroke: var(--compaction); }
.line.moved { stroke: var(--moved); stroke-dasharray: 1 4.5; stroke-width: 2.8; }
.band { stroke: none; opacity: 0.17; }
rect.vanilla, path.vanilla:not(.line) { fill: var(--vanilla); }
rect.compaction, path.compaction:not(.line) { fill: var(--compaction); }
.kswapd { fill: var(--cache); } .direct { fill: var(--kernel); }
.migrate { fill: var(--compaction); } .target { fill: var(--anon); }
.U { fill: var(--kernel); } .u { fill: var(--kernel-few); } .A { fill: var(--anon); } .a { fill: var(--anon-few); }
.C { fill: var(--cache); } .c { fill: var(--cache-few); } .H { fill: var(--huge); } .f { fill: var(--free); } .r { fill: var(--reserved); }
.mesh { stroke: var(--panel); stroke-width: 1.6; fill: none; }
.o0 { fill: var(--o0); } .o1 { fill: var(--o1); } .o2 { fill: var(--o2); } .o3 { fill: var(--o3); } .o4 { fill: var(--o4); } .o5 { fill: var(--o5); }
footer { color: var(--soft); font-size: 0.9rem; padding-top: 32px; padding-bottom: 48px; }
@media (max-width: 560px) {
  main, header, footer { padding-left: 14px; padding-right: 14px; }
  header { padding-top: 24px; }
  .group { padding: 16px 14px; border-radius: 12px; }
  h2 { margin-top: 44px; }
  th, td { padding: 6px 8px; }
}
@media print { .group { break-inside: avoid-page; border: none; padding: 0; } }
`;
