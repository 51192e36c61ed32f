# RPD_ADD_FLAGS(VARIABLE, FLAGS): appends to VARIABLE those flags that the compiler takes without a word and the linker does too.
AC_DEFUN([RPD_ADD_FLAGS], [
  for rpd_flag in $2; do
    AS_VAR_PUSHDEF([rpd_var], [rpd_cv_flag_$rpd_flag])
    AC_CACHE_CHECK([whether $CC takes $rpd_flag], [rpd_var], [
      rpd_save_CFLAGS=$CFLAGS
      CFLAGS="$CFLAGS -Werror $rpd_flag"
      AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [AS_VAR_SET([rpd_var], [yes])], [AS_VAR_SET([rpd_var], [no])])
      CFLAGS=$rpd_save_CFLAGS
    ])
    AS_VAR_IF([rpd_var], [yes], [AS_VAR_APPEND([$1], [" $rpd_flag"])])
    AS_VAR_POPDEF([rpd_var])
  done
])
