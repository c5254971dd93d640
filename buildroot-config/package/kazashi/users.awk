# sysusers.d(5) in, Buildroot's users out, joined by "|": the image has no systemd-sysusers, and there is one list of users.
function number(told) { return told == "-" ? -1 : told }
$1 == "g" { groups = groups "- - " $2 " " number($3) " * - - - -|" }
$1 == "m" { in_groups[$2] = in_groups[$2] (in_groups[$2] == "" ? "" : ",") $3 }
$1 == "u" { order[++count] = $2; id[$2] = number($3); match($0, /"[^"]*"/); says[$2] = substr($0, RSTART + 1, RLENGTH - 2) }
END {
    for (each = 1; each <= count; each++) {
        name = order[each]
        users = users name " " id[name] " " name " " id[name] " * - - " (in_groups[name] == "" ? "-" : in_groups[name]) " " says[name] "|"
    }
    printf "%s", groups users
}
