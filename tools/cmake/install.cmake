# cmake --install: the binary, units, man pages, completion, and /etc/ptrig/ptrig.toml unless there is one.
include(GNUInstallDirs)

# The units name the binary by its full path, which is known when the prefix is: at installation.
foreach(unit ptrig.service ptrig-datapath.service)
  install(CODE "
    set(PTRIG_SBIN \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}\")
    configure_file(\"${CMAKE_SOURCE_DIR}/tools/packaging/${unit}.in\" \"${CMAKE_BINARY_DIR}/packaging/${unit}\" @ONLY)")
  # systemd reads this directory of /usr and of /usr/local alike.
  install(FILES ${CMAKE_BINARY_DIR}/packaging/${unit} DESTINATION lib/systemd/system)
endforeach()

install(TARGETS ptrig RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
install(FILES tools/packaging/ptrig.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
install(FILES tools/packaging/ptrig.toml.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
install(FILES tools/packaging/ptrig.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME ptrig)
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

# The program reads /etc/ptrig whatever the prefix is. What the administrator wrote is never overwritten.
set(PTRIG_DEFAULT_CONFIG ${CMAKE_SOURCE_DIR}/tools/packaging/ptrig.toml)
install(FILES ${PTRIG_DEFAULT_CONFIG} DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
install(CODE "
  if(EXISTS \"\$ENV{DESTDIR}/etc/ptrig/ptrig.toml\")
    message(STATUS \"Kept: \$ENV{DESTDIR}/etc/ptrig/ptrig.toml\")
  else()
    file(INSTALL DESTINATION /etc/ptrig TYPE FILE FILES \"${PTRIG_DEFAULT_CONFIG}\")
  endif()
  file(MAKE_DIRECTORY \"\$ENV{DESTDIR}/etc/ptrig/rules.d\")")
