# Draws out/curves.png from out/curves.csv: mean loss over seeds against steps, one panel per protocol.
csv = out.'/curves.csv'
panels = system("tail -n +2 ".csv." | cut -d, -f1 | awk '!seen[$0]++' | tr '\\n' ' '")
methods = system("tail -n +2 ".csv." | cut -d, -f2 | awk '!seen[$0]++' | tr '\\n' ' '")
heading(p) = p eq 'common' ? '(a) one common learning rate' : '(b) each method at its own best rate'
means(p, m) = "< awk -F, '$1 == \"".p."\" && $2 == \"".m."\" {s[$5] += $6; n[$5]++} END {for (k in s) print k, s[k]/n[k]}' ".csv." | sort -n"
dash(m) = (strlen(m) > 9 && substr(m, 1, 9) eq 'ga-random') ? 3 : 1
set terminal pngcairo size 700*words(panels), 560 font 'sans,11'
set output out.'/curves.png'
set multiplot layout 1, words(panels)
set xlabel 'step'
set ylabel 'loss on the held-out images (mean of seeds)'
set grid
set key top right
set linetype 1 lc rgb 'black'
set linetype 5 lc rgb '#8a2be2'
set linetype 8 lc rgb '#0072b2'  # the random controls share their counterparts' colours
set linetype 9 lc rgb '#e51e10'
do for [p in panels] {
  set title heading(p)
  plot for [m in methods] means(p, m) with lines linewidth 2 dashtype dash(m) title m
}
unset multiplot
