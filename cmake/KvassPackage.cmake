# `cpack` makes a Debian package of what is installed: the program, the library in its forms with its headers, manual pages
# and shell completions. The manual pages are written from the program's own help.
find_program(KVASS_HELP2MAN help2man REQUIRED)
mark_as_advanced(KVASS_HELP2MAN)

set(KVASS_PACKAGE_FILES ${PROJECT_BINARY_DIR}/package-files)
add_custom_command(OUTPUT ${KVASS_PACKAGE_FILES}/written VERBATIM
  COMMAND ${PROJECT_SOURCE_DIR}/packaging/write-pages.sh ${KVASS_HELP2MAN} $<TARGET_FILE:kvass_cli> ${PROJECT_VERSION} ${KVASS_PACKAGE_FILES}
  COMMAND ${CMAKE_COMMAND} -E touch ${KVASS_PACKAGE_FILES}/written
  DEPENDS kvass_cli ${PROJECT_SOURCE_DIR}/packaging/write-pages.sh COMMENT "manual pages and completions")
add_custom_target(kvass_package_files ALL DEPENDS ${KVASS_PACKAGE_FILES}/written)
install(DIRECTORY ${KVASS_PACKAGE_FILES}/man1 DESTINATION ${CMAKE_INSTALL_MANDIR})
install(FILES ${KVASS_PACKAGE_FILES}/kvass.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME kvass)
install(FILES ${KVASS_PACKAGE_FILES}/_kvass DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
install(FILES ${KVASS_PACKAGE_FILES}/kvass.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME kvass)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "the kvass authors <kvass@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "attention over KV caches of planned size")
set(CPACK_PACKAGE_DESCRIPTION "kvass runs language and speech models in memory that is planned before the first token
and never grows, and gives the same bits however the work is cut up. This package has the program, the
library (C++ and C) with its headers, manual pages and shell completions.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libfmt-dev, libpcre2-dev, libutf8proc-dev, libxxhash-dev, libsndfile1-dev, libsamplerate0-dev, zlib1g-dev")
include(CPack)
